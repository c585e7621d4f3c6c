// Package measure is what both benchmarks need: programs that run beside the benchmark and what they cost, medians and ratios,
// tables in Markdown, and which machine all this was measured on.
package measure
