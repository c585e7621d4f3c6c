// Package arch holds nothing but tests: of who may import whom, and of what Dokku takes for granted in a plugin's tree. The
// linter has the same import rules; these here run wherever the tests do.
package arch
