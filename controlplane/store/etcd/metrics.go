package etcd

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	transactions *prometheus.CounterVec
	operations   prometheus.Histogram
	seconds      prometheus.Histogram
	refused      *prometheus.CounterVec
	pending      prometheus.Gauge
	revision     prometheus.Gauge
	reloads      prometheus.Counter
	undecodable  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	const ns, sub = "plimsoll", "store"
	m := &metrics{
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "transactions_total",
			Help: "Transactions by outcome: committed, refused (a condition did not hold), failed."}, []string{"outcome"}),
		operations: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "transaction_writes",
			Help: "Writes in one transaction.", Buckets: prometheus.ExponentialBuckets(1, 4, 7)}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "transaction_seconds",
			Help: "Time of one transaction.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "batches_refused_total",
			Help: "Batches refused, by reason: conflict, fenced."}, []string{"reason"}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "batches_pending",
			Help: "Batches that wait for a transaction or are in one."}),
		revision: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: "snapshot_revision",
			Help: "The revision of the snapshot in memory."}),
		reloads: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "reloads_total",
			Help: "How often everything was loaded again because the watch could not go on."}),
		undecodable: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "undecodable_records_total",
			Help: "Records that could not be decoded and were left out."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.transactions, m.operations, m.seconds, m.refused, m.pending, m.revision, m.reloads, m.undecodable} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
