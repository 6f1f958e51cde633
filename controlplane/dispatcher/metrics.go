package dispatcher

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what the dispatcher does. A nil *Metrics counts nothing.
type Metrics struct {
	sessions    prometheus.Gauge
	assignments prometheus.Counter
	reports     *prometheus.CounterVec
}

// NewMetrics registers the dispatcher's metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "plimsoll_dispatcher_sessions", Help: "Sessions of container instances that this replica holds."}),
		assignments: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "plimsoll_dispatcher_assignments_sent_total", Help: "Task assignments sent to container instances."}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "plimsoll_dispatcher_task_statuses_total", Help: "Task statuses reported by container instances, by result."}, []string{"result"}),
	}
	r.MustRegister(m.sessions, m.assignments, m.reports)
	return m
}

func (m *Metrics) opened() {
	if m != nil {
		m.sessions.Inc()
	}
}

func (m *Metrics) closed() {
	if m != nil {
		m.sessions.Dec()
	}
}

func (m *Metrics) sent(n int) {
	if m != nil {
		m.assignments.Add(float64(n))
	}
}

func (m *Metrics) statuses(stored, rejected int) {
	if m != nil {
		m.reports.WithLabelValues("stored").Add(float64(stored))
		m.reports.WithLabelValues("rejected").Add(float64(rejected))
	}
}
