package controller

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are those of all controllers of a process, by the controller's name.
type Metrics struct {
	steps     *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	writes    *prometheus.CounterVec
	conflicts *prometheus.CounterVec
}

// NewMetrics makes the metrics and registers them, unless reg is nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	const ns, sub = "plimsoll", "controller"
	label := []string{"controller"}
	m := &Metrics{
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "steps_total",
			Help: "Steps."}, label),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "step_seconds",
			Help: "Time of a step: plan, commits, and the wait for the snapshot to show them.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}, label),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "writes_total",
			Help: "Records written."}, label),
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "conflicts_total",
			Help: "Batches refused because somebody else was faster."}, label),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.steps, m.seconds, m.writes, m.conflicts} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the controllers' metrics: %w", err)
		}
	}
	return m, nil
}

func (m *Metrics) step(name string, seconds float64, r Result) {
	if m == nil {
		return
	}
	m.steps.WithLabelValues(name).Inc()
	m.seconds.WithLabelValues(name).Observe(seconds)
	m.writes.WithLabelValues(name).Add(float64(r.Writes))
	m.conflicts.WithLabelValues(name).Add(float64(r.Conflicts))
}
