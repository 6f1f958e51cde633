// Command program is what a test container runs: see package behaviour.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/plimsoll-project/plimsoll/agent/runtime/runtimetest/behaviour"
)

func main() {
	b, err := behaviour.Parse(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	for range b.Children {
		child := exec.Command("/proc/self/exe", behaviour.Behaviour{After: behaviour.Forever, IgnoreTerm: true}.Args()...)
		if err := child.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	for n := range b.Lines {
		fmt.Printf("line %d\n", n)
	}
	if b.Report {
		report(os.Stdout)
	}
	io.WriteString(os.Stdout, b.Print)
	io.WriteString(os.Stderr, b.PrintErr)
	held := make([][]byte, 0, b.Allocate)
	for range b.Allocate {
		mib := make([]byte, 1<<20)
		for n := 0; n < len(mib); n += 4096 {
			mib[n] = 1
		}
		held = append(held, mib)
	}
	var ended <-chan time.Time
	if b.After >= 0 {
		ended = time.After(b.After)
	}
	for {
		select {
		case <-terms:
			if !b.IgnoreTerm {
				os.Exit(b.TermExit)
			}
		case <-ended:
			// The memory stays in use until here.
			_ = len(held)
			os.Exit(b.Exit)
		}
	}
}

// report writes what the process sees of itself.
func report(w io.Writer) {
	hostname, _ := os.Hostname()
	dir, _ := os.Getwd()
	groups, _ := os.Getgroups()
	status, _ := os.ReadFile("/proc/self/status")
	values := map[string]string{}
	for line := range strings.Lines(string(status)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			values[k] = strings.TrimSpace(v)
		}
	}
	var limit syscall.Rlimit
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	mounts, _ := os.ReadFile("/proc/self/mounts")
	netns, _ := os.Readlink("/proc/self/ns/net")
	writeErr := os.WriteFile("/written", nil, 0o600)
	_ = json.NewEncoder(w).Encode(behaviour.Report{
		Args: os.Args, Env: os.Environ(), Dir: dir, Hostname: hostname, UID: os.Getuid(), GID: os.Getgid(), Groups: groups,
		Capabilities: values["CapEff"], Bounding: values["CapBnd"], NoNewPrivs: values["NoNewPrivs"], Seccomp: values["Seccomp"], OpenFiles: limit.Cur,
		Mounts: string(mounts), NetNS: netns, CanWrite: writeErr == nil,
	})
}
