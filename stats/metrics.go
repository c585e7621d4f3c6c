package stats

import (
	"context"
	"slices"
	"strings"
	"time"

	"dokku-expose/deploy"

	"github.com/prometheus/client_golang/prometheus"
)

// askTimeout bounds how long the engine may take to be observed.
const askTimeout = 10 * time.Second

const namespace = "dokku_expose"

// desc is a metric of the engine.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	routeLabels     = []string{"app", "process", "port"}
	containerLabels = []string{"app", "process", "port", "dyno", "container", "address"}

	descUp             = desc("up", "Whether the engine could be asked: 1 or 0.")
	descInfo           = desc("info", "The engine, always 1.", "engine", "version")
	descMaxConnections = desc("max_connections", "Connections that the engine takes at most.")
	descOldProcesses   = desc("old_processes", "Former processes of the engine that have connections still.")
	descOldOpen        = desc("old_processes_open_connections", "Connections of former processes of the engine.")
	descReloads        = desc("reloads_total", "Reloads of the engine.")
	descUnrecognized   = desc("unrecognized_names_total", "Clients that were closed since no route has the server name which they asked for.")
	descSwitch         = desc("switch_duration_seconds", "Time that it took to move public ports to other containers.")

	descListening = desc("listening", "Whether the public port is open: 1 or 0.", routeLabels...)
	descOpen      = desc("open_connections", "Connections that are open, held ones included.", routeLabels...)
	descHeld      = desc("held_connections", "Connections that wait for a container.", routeLabels...)
	descOld       = desc("old_open_connections", "Connections that are open on containers that get no new ones any more.", routeLabels...)
	descTotal     = desc("connections_total", "Connections made to containers.", routeLabels...)
	descFailed    = desc("failed_dials_total", "Attempts to connect to a container that failed.", routeLabels...)
	descUnserved  = desc("unserved_connections_total", "Connections that were closed since no container came up in time.", routeLabels...)
	descDrained   = desc("drained_connections_total", "Connections that ended on a container that got no new ones any more.", routeLabels...)
	descIn        = desc("received_bytes_total", "Bytes received from clients.", routeLabels...)
	descOut       = desc("sent_bytes_total", "Bytes sent to clients.", routeLabels...)
	descSwitched  = desc("last_switch_timestamp_seconds", "When the port was moved to other containers last.", routeLabels...)

	descHandshakes  = desc("tls_handshake_failures_total", "Clients that were closed since they did not come to speak TLS.", routeLabels...)
	descVersions    = desc("tls_connections_total", "Clients that speak TLS, which ends here, by its version.", append(slices.Clone(routeLabels), "version")...)
	descCertificate = desc("certificate_not_after_seconds", "When the certificate of the port's TLS ends.", routeLabels...)

	descDatagrams = desc("datagrams_total", "Datagrams of UDP, from clients (in) and to them (out).", append(slices.Clone(routeLabels), "direction")...)
	descDropped   = desc("datagrams_dropped_total", "Datagrams of clients and answers that were dropped, by reason.", append(slices.Clone(routeLabels), "reason")...)

	descContainerUp      = desc("container_up", "Whether the container accepts connections: 1 or 0.", containerLabels...)
	descContainerCurrent = desc("container_current", "Whether the container gets new connections: 1 or 0.", containerLabels...)
	descContainerOpen    = desc("container_open_connections", "Connections that are open on the container.", containerLabels...)
	descContainerTotal   = desc("container_connections_total", "Connections made to the container.", containerLabels...)
	descContainerFailed  = desc("container_failed_dials_total", "Attempts to connect to the container that failed.", containerLabels...)
	descContainerIn      = desc("container_received_bytes_total", "Bytes received from clients for the container.", containerLabels...)
	descContainerOut     = desc("container_sent_bytes_total", "Bytes sent to clients from the container.", containerLabels...)
)

// Collector makes metrics of the observation that ask returns, which it calls for each scrape. When that fails there is only
// dokku_expose_up, which is 0.
func Collector(ask func(context.Context) (deploy.Observation, error)) prometheus.Collector {
	return collector{ask}
}

type collector struct {
	ask func(context.Context) (deploy.Observation, error)
}

// Describe implements [prometheus.Collector]. What there will be depends on the engine: it describes nothing.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	observed, err := c.ask(ctx)
	s := sink{metrics: metrics}
	s.gauge(descUp, truth(err == nil))
	if err == nil {
		s.engine(observed)
	}
}

// sink takes metrics with the labels of what they are about.
type sink struct {
	metrics chan<- prometheus.Metric
	labels  []string
}

func (s sink) with(labels ...string) sink { return sink{s.metrics, labels} }

func (s sink) gauge(d *prometheus.Desc, value float64) {
	s.metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, s.labels...)
}

func (s sink) counter(d *prometheus.Desc, value uint64) {
	s.metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), s.labels...)
}

// maybe leaves out what the engine does not count.
func (s sink) maybe(d *prometheus.Desc, value *uint64) {
	if value != nil {
		s.counter(d, *value)
	}
}

func (s sink) engine(f deploy.Observation) {
	s.with(label(f.Engine), label(f.Version)).gauge(descInfo, 1)
	s.gauge(descMaxConnections, float64(f.MaxConnections))
	s.gauge(descOldProcesses, float64(len(f.Old)))
	old := 0
	for _, p := range f.Old {
		old += p.Connections
	}
	s.gauge(descOldOpen, float64(old))
	s.maybe(descReloads, f.Reloads)
	s.counter(descUnrecognized, f.Unrecognized)
	if f.Switches != nil {
		s.metrics <- prometheus.MustNewConstSummary(descSwitch, f.Switches.Count, f.Switches.Seconds, nil)
	}
	for _, r := range f.Routes {
		s.route(r)
	}
}

func (s sink) route(r deploy.RouteState) {
	of := s.with(label(r.App), label(r.Process), label(r.Key.String()))
	of.gauge(descListening, truth(r.Listening))
	of.gauge(descOpen, float64(r.Connections()))
	of.gauge(descHeld, float64(r.Held))
	of.gauge(descOld, float64(r.Draining()))
	of.counter(descTotal, r.Total)
	of.counter(descFailed, r.Failed)
	of.counter(descIn, r.In)
	of.counter(descOut, r.Out)
	of.maybe(descUnserved, r.Unserved)
	of.maybe(descDrained, r.Drained)
	if !r.Switched.IsZero() {
		of.gauge(descSwitched, float64(r.Switched.UnixMilli())/1000)
	}
	if r.Options.TLS == deploy.TerminateTLS || r.Options.StartTLS != "" {
		of.counter(descHandshakes, r.HandshakesFailed)
	}
	if r.Options.TLS == deploy.TerminateTLS {
		for version, count := range r.TLSVersions {
			of.with(append(of.labels[:3:3], label(version))...).counter(descVersions, count)
		}
	}
	if d := r.Datagrams; d != nil {
		of.with(append(of.labels[:3:3], "in")...).counter(descDatagrams, d.In)
		of.with(append(of.labels[:3:3], "out")...).counter(descDatagrams, d.Out)
		for reason, count := range d.Dropped {
			of.with(append(of.labels[:3:3], reason)...).counter(descDropped, count)
		}
	}
	if !r.CertificateEnds.IsZero() {
		of.gauge(descCertificate, float64(r.CertificateEnds.Unix()))
	}
	for _, c := range r.Servers {
		of := s.with(append(of.labels[:3:3], label(c.Dyno), label(c.ShortID()), label(c.Addr.String()))...)
		of.gauge(descContainerUp, truth(c.Up))
		of.gauge(descContainerCurrent, truth(!c.Old))
		of.gauge(descContainerOpen, float64(c.Connections))
		if c.Counts != nil {
			of.counter(descContainerTotal, c.Total)
			of.counter(descContainerFailed, c.Failed)
			of.counter(descContainerIn, c.In)
			of.counter(descContainerOut, c.Out)
		}
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// label makes a label's value of any text. Prometheus takes UTF-8 only, and one bad name must not cost all metrics.
func label(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
