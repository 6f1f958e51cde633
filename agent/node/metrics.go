package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the agent's figures, read when they are asked for.
func (n *node) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	gauge := func(name, help string, value func() int) {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "plimsoll", Subsystem: "agent", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	gauge("connected", "1 while the session with the control plane is there.", func() int {
		if n.connected.Load() {
			return 1
		}
		return 0
	})
	gauge("tasks", "Tasks on this host that are not over.", func() int { return n.runner.Counts().Tasks })
	gauge("tasks_ended", "Tasks that are over and still assigned.", func() int { return n.runner.Counts().Ended })
	gauge("launching", "Containers that are being created or started.", func() int { return n.runner.Counts().Launching })
	gauge("launching_limit", "Most containers that are launched at once.", func() int { return n.runner.Counts().Launches })
	gauge("statuses_pending", "Tasks whose status is not acknowledged.", n.session.Pending)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// serveMetrics serves /metrics until ctx ends.
func (n *node) serveMetrics(ctx context.Context) error {
	l, err := net.Listen("tcp", n.cfg.MetricsListen)
	if err != nil {
		return fmt.Errorf("--metrics-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(n.metrics(), promhttp.HandlerOpts{}))
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
