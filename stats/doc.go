// Package stats shows what an engine does: as a page for people and as metrics for Prometheus, both behind one login.
//
// [Facts] are what is shown, the same for every engine; whoever knows the engine fills them in. [Serve] serves the page and the
// metrics, [Collector] makes the metrics of facts.
//
// The package must not know an engine, Docker or Dokku, and it keeps nothing but its own counters: facts are asked for anew
// each time somebody looks.
package stats
