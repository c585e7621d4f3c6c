// Package measure is what the benchmarks share: their main function, the project's engines, programs that run beside a benchmark and
// what they cost, medians and ratios, tables in Markdown, and the machine that all this was measured on.
package measure
