// Package stats shows what an engine does: as a page for people and as metrics for Prometheus, both behind one login.
//
// Both show a [deploy.Observation], the same for every engine. [Serve] serves the page and the metrics, [Collector] makes the metrics.
//
// The package must not know an engine, Docker or Dokku, and it keeps nothing but its own counters: the engine is asked anew each time
// somebody looks.
package stats
