package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is set when the image is built; the variable VERSION overrides it.
var version = "dev"

// grace is how long requests under way may take after SIGTERM.
const grace = 5 * time.Second

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stdout)
	f := flag.NewFlagSet("app", flag.ExitOnError)
	o := options{}
	f.StringVar(&o.listen, "listen", ":"+cmp.Or(os.Getenv("PORT"), "8080"), "address to serve on; the variable PORT changes its default's port")
	f.DurationVar(&o.exitAfter, "exit-after", 0, "end after this time; 0 is never")
	f.IntVar(&o.exitCode, "exit-code", 0, "exit code of -exit-after and -print")
	f.BoolVar(&o.ignoreSIGTERM, "ignore-sigterm", false, "go on after SIGTERM")
	f.StringVar(&o.print, "print", "", "print this and end at once")
	_ = f.Parse(os.Args[1:]) // ends the process if it fails
	code, err := run(o, &server{
		task: os.Getenv("PLIMSOLL_TASK_ARN"), host: os.Getenv("PLIMSOLL_HOST"),
		version: cmp.Or(os.Getenv("VERSION"), version), exit: os.Exit, log: log.Printf,
	})
	if err != nil {
		log.Printf("app: %v", err)
		os.Exit(1)
	}
	os.Exit(code)
}

type options struct {
	listen        string
	exitAfter     time.Duration
	exitCode      int
	ignoreSIGTERM bool
	print         string
}

// run serves until it is to end, and answers the exit code.
func run(o options, s *server) (int, error) {
	if o.print != "" {
		fmt.Println(o.print)
		return o.exitCode, nil
	}
	stop := make(chan os.Signal, 1)
	if o.ignoreSIGTERM {
		signal.Ignore(syscall.SIGTERM)
	} else {
		signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	}
	var over <-chan time.Time
	if o.exitAfter > 0 {
		over = time.After(o.exitAfter)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return 0, err
	}
	h := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(listener) }()
	log.Printf("version %s serves on %s", s.version, listener.Addr())
	select {
	case err := <-ended:
		return 0, err
	case <-over:
		log.Printf("ends with %d after %s", o.exitCode, o.exitAfter)
		return o.exitCode, nil
	case sig := <-stop:
		log.Printf("ends on %s", sig)
		ctx, cancel := context.WithTimeout(context.Background(), grace)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return 0, err
		}
		return 0, nil
	}
}
