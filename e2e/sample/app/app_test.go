package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func get(t *testing.T, s *server, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

func TestAnswers(t *testing.T) {
	t.Setenv("SAMPLE", "seen")
	var lines []string
	exited := -1
	s := &server{task: "arn:aws:ecs:us-east-1:123456789012:task/default/0a1b", host: "node-1", version: "7",
		exit: func(code int) { exited = code }, log: func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }}
	for target, c := range map[string]struct {
		status int
		body   string
	}{
		"/":                {200, "task 0a1b host node-1 version 7"},
		"/healthz":         {200, "ok"},
		"/env":             {200, "SAMPLE=seen"},
		"/slow?ms=1":       {200, "took 1 ms"},
		"/slow?ms=x":       {400, "not a number"},
		"/leak?mib=2":      {200, "keeps 2 MiB"},
		"/leak?mib=-1":     {400, "not a number"},
		"/crash?code=no":   {400, "not a number"},
		"/nothing":         {404, ""},
		"/?format=strange": {200, "version 7"},
	} {
		if w := get(t, s, target); w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	if len(lines) != 10 || exited != -1 {
		t.Errorf("%d requests are logged, exit code %d: %v", len(lines), exited, lines)
	}
	var who map[string]string
	if err := json.Unmarshal(get(t, s, "/?format=json").Body.Bytes(), &who); err != nil || who["task"] != "0a1b" || who["version"] != "7" || who["host"] != "node-1" {
		t.Errorf("it is %v, %v", who, err)
	}
	for target, code := range map[string]int{"/crash?code=3": 3, "/crash": 1} {
		if get(t, s, target); exited != code {
			t.Errorf("%s: exit code %d", target, exited)
		}
	}
}

// build makes the program once for the tests that need a process.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "app")
	if out, err := exec.Command("go", "build", "-ldflags", "-X main.version=7", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

func TestProcess(t *testing.T) {
	program := build(t)
	for name, c := range map[string]struct {
		args []string
		says string
		code int
	}{
		"prints and ends":   {[]string{"-print", "hello", "-exit-code", "4"}, "hello\n", 4},
		"ends by itself":    {[]string{"-listen", "127.0.0.1:0", "-exit-after", "10ms", "-exit-code", "5"}, "ends with 5", 5},
		"an address in use": {[]string{"-listen", "192.0.2.1:1"}, "app: listen", 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program, c.args...)
			out, _ := cmd.Output() // The exit code is looked at below.
			if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.says) {
				t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
			}
		})
	}
}

func TestSIGTERM(t *testing.T) {
	program := build(t)
	for name, c := range map[string]struct {
		args []string
		dies syscall.Signal // what ends it; 0 if it ends by itself
	}{
		"ends promptly":      {nil, 0},
		"ignored when asked": {[]string{"-ignore-sigterm"}, syscall.SIGKILL},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(program, append(c.args, "-listen", "127.0.0.1:0")...)
			cmd.Env = append(os.Environ(), "VERSION=8")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var errs bytes.Buffer
			cmd.Stderr = &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() }) // If it did not end by itself.
			lines := bufio.NewScanner(out)
			if !lines.Scan() || !strings.Contains(lines.Text(), "version 8 serves") {
				t.Errorf("it says %q %s", lines.Text(), &errs)
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if c.dies != 0 {
				address := lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:]
				resp, err := http.Get("http://" + address + "/healthz")
				if err != nil {
					t.Fatalf("after SIGTERM: %v", err)
				}
				resp.Body.Close()
				_ = cmd.Process.Signal(c.dies)
			}
			stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
			defer stuck.Stop()
			for lines.Scan() {
				t.Log(lines.Text())
			}
			_ = cmd.Wait() // The state is looked at below.
			status := cmd.ProcessState.Sys().(syscall.WaitStatus)
			if c.dies == 0 && !(status.Exited() && status.ExitStatus() == 0) || c.dies != 0 && status.Signal() != c.dies {
				t.Errorf("it ended with %v", cmd.ProcessState)
			}
		})
	}
}
