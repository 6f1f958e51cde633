package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// server answers requests.
type server struct {
	task, host, version string
	exit                func(code int)
	log                 func(format string, args ...any)

	mu     sync.Mutex
	leaked [][]byte
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.who)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/slow", s.slow)
	mux.HandleFunc("/leak", s.leak)
	mux.HandleFunc("/crash", s.crash)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.log("%s %s from %s", r.Method, r.URL.Path, r.RemoteAddr)
		mux.ServeHTTP(w, r)
	})
}

func (s *server) who(w http.ResponseWriter, r *http.Request) {
	id := s.task[strings.LastIndexByte(s.task, '/')+1:]
	if r.FormValue("format") != "json" {
		fmt.Fprintf(w, "task %s host %s version %s\n", id, s.host, s.version)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"task": id, "taskArn": s.task, "host": s.host, "version": s.version})
}

func (s *server) slow(w http.ResponseWriter, r *http.Request) {
	ms, ok := number(w, r, "ms", 1000)
	if !ok {
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		fmt.Fprintf(w, "took %d ms\n", ms)
	case <-r.Context().Done():
	}
}

func (s *server) leak(w http.ResponseWriter, r *http.Request) {
	mib, ok := number(w, r, "mib", 1)
	if !ok {
		return
	}
	for range mib {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1 // The kernel gives a page when it is written.
		}
		s.mu.Lock()
		s.leaked = append(s.leaked, b)
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(w, "keeps %d MiB\n", len(s.leaked))
}

func (s *server) crash(w http.ResponseWriter, r *http.Request) {
	if code, ok := number(w, r, "code", 1); ok {
		s.log("crashes with %d", code)
		s.exit(code)
	}
}

// number is a query parameter that is not negative; if it is something else, it
// answers 400 and false.
func number(w http.ResponseWriter, r *http.Request, name string, otherwise int) (int, bool) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		http.Error(w, fmt.Sprintf("%s=%q is not a number from 0 up", name, text), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}
