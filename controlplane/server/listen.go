package server

import (
	"fmt"
	"net"
)

// listeners are all of a replica's.
type listeners struct {
	api, registry []net.Listener
	metrics       net.Listener
}

func listen(cfg Config) (*listeners, error) {
	l := &listeners{}
	for _, a := range cfg.Listen {
		lis, err := net.Listen("tcp", a)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("--listen: %w", err)
		}
		l.api = append(l.api, lis)
	}
	for _, a := range cfg.RegistryListen {
		lis, err := net.Listen("tcp", a)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("--registry-listen: %w", err)
		}
		l.registry = append(l.registry, lis)
	}
	if cfg.MetricsListen != "" {
		lis, err := net.Listen("tcp", cfg.MetricsListen)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("--metrics-listen: %w", err)
		}
		l.metrics = lis
	}
	return l, nil
}

// close closes what is still open; those that served are closed already.
func (l *listeners) close() {
	for _, lis := range append(l.api, l.registry...) {
		lis.Close()
	}
	if l.metrics != nil {
		l.metrics.Close()
	}
}
