package stats

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Counters count what the daemon does, whatever the engine is. They are for one daemon, from its start on, and may be used by
// several goroutines.
type Counters struct {
	reconciles prometheus.Histogram
	failures   prometheus.Counter
	heals      prometheus.Counter
	problems   prometheus.Gauge
}

// NewCounters makes counters that stand at 0.
func NewCounters() *Counters {
	return &Counters{
		reconciles: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "reconcile_duration_seconds",
			Help:    "Time that it took the daemon to make all public ports what they should be.",
			Buckets: []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "reconcile_errors_total",
			Help: "Times when the daemon could change nothing: the engine or Docker could not be asked.",
		}),
		heals: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "heals_total",
			Help: "Public ports that the daemon moved since a container was gone, was back, or had another address.",
		}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "problems",
			Help: "Things that the daemon found wrong when it looked last; expose:check tells them.",
		}),
	}
}

// Reconciled counts one time that the daemon made everything what it should be: how long it took, how many public ports it
// moved, how much is wrong still, and whether nothing could be done at all.
func (c *Counters) Reconciled(took time.Duration, moved, problems int, err error) {
	c.reconciles.Observe(took.Seconds())
	c.heals.Add(float64(moved))
	c.problems.Set(float64(problems))
	if err != nil {
		c.failures.Inc()
	}
}

// Describe implements [prometheus.Collector].
func (c *Counters) Describe(descs chan<- *prometheus.Desc) {
	for _, each := range c.all() {
		each.Describe(descs)
	}
}

// Collect implements [prometheus.Collector].
func (c *Counters) Collect(metrics chan<- prometheus.Metric) {
	for _, each := range c.all() {
		each.Collect(metrics)
	}
}

func (c *Counters) all() []prometheus.Collector {
	return []prometheus.Collector{c.reconciles, c.failures, c.heals, c.problems}
}
