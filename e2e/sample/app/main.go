// Command app is the sample: a small HTTP server that says who it is, and can be
// told to crash, to leak memory and to be slow. It is packed into an image by
// package sample.
//
//	GET /            task, host and version, as text
//	GET /healthz     ok
//	GET /env         the environment
//	GET /crash?code=N   exits with N, 1 when absent
//	GET /leak?mib=N     keeps N MiB more, 16 when absent
//	GET /slow?ms=N      answers after N milliseconds, 1000 when absent
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// version is set when the image is built.
var version = "dev"

func main() {
	listen := flag.String("listen", ":"+or(os.Getenv("PORT"), "8080"), "address to serve on")
	text := flag.String("print", "", "print this and exit, serve nothing")
	code := flag.Int("exit-code", 0, "exit code of -print and -exit-after")
	after := flag.Duration("exit-after", 0, "serve this long and exit")
	stubborn := flag.Bool("ignore-sigterm", false, "do not end at SIGTERM")
	flag.Parse()
	if *text != "" {
		fmt.Println(*text)
		os.Exit(*code)
	}
	os.Exit(serve(*listen, *after, *code, *stubborn))
}

func serve(listen string, after time.Duration, code int, stubborn bool) int {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if stubborn {
		signal.Ignore(syscall.SIGTERM)
	} else {
		ctx, cancel = signal.NotifyContext(ctx, syscall.SIGTERM)
		defer cancel()
	}
	if after > 0 {
		ctx, cancel = context.WithTimeout(ctx, after)
		defer cancel()
	}
	server := &http.Server{Addr: listen, Handler: logged(handler()), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	fmt.Printf("sample %s serves on %s\n", version, listen)
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, "sample:", err)
		return 1
	case <-ctx.Done():
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = 0
	}
	stop, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	if err := server.Shutdown(stop); err != nil {
		fmt.Fprintln(os.Stderr, "sample: requests were cut off:", err)
	}
	fmt.Println("sample ends")
	return code
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		arn := os.Getenv("PLIMSOLL_TASK_ARN")
		fmt.Fprintf(w, "task %s host %s version %s\n", arn[strings.LastIndexByte(arn, '/')+1:], os.Getenv("PLIMSOLL_HOST"), version)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /env", func(w http.ResponseWriter, _ *http.Request) {
		for _, e := range os.Environ() {
			fmt.Fprintln(w, e)
		}
	})
	mux.HandleFunc("GET /crash", func(_ http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(os.Stderr, "sample: told to crash")
		os.Exit(number(r, "code", 1))
	})
	var leaked [][]byte
	var mu sync.Mutex
	mux.HandleFunc("GET /leak", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		b := make([]byte, number(r, "mib", 16)<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		leaked = append(leaked, b)
		fmt.Fprintln(w, "leaked", len(leaked), "times")
	})
	mux.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(time.Duration(number(r, "ms", 1000)) * time.Millisecond):
			fmt.Fprintln(w, "slow")
		case <-r.Context().Done():
		}
	})
	return mux
}

func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path, "from", r.RemoteAddr)
		next.ServeHTTP(w, r)
	})
}

func number(r *http.Request, name string, otherwise int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
