package structure

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/plimsoll-project/plimsoll/"

type pkg struct {
	ImportPath string
	Dir        string
	Name       string
	Doc        string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,Doc,Imports,Deps", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		all = append(all, p)
	}
}

func under(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return path == r || strings.HasPrefix(path, r+"/") })
}

// TestImportsPointDownward holds each package's imports against the rules of
// docs/architecture.md.
func TestImportsPointDownward(t *testing.T) {
	etcdClient := []string{"controlplane/store/etcd", "controlplane/leader", "controlplane/server", "e2e"}
	containerd := []string{"agent/runtime/containerd", "agent/runtime/runtimetest", "agent/images", "agent/node", "cmd/plim-agent", "e2e"}
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			local, ours := strings.CutPrefix(imported, module)
			switch {
			case under(p.ImportPath, "agent") && ours && under(local, "controlplane"),
				under(p.ImportPath, "controlplane") && ours && under(local, "agent") && !under(p.ImportPath, "controlplane/sim"):
				t.Errorf("%s imports %s: agent and control plane never import each other", p.ImportPath, local)
			case strings.HasPrefix(imported, "go.etcd.io/etcd/") && !under(p.ImportPath, etcdClient...):
				t.Errorf("%s imports %s: only the etcd store, leader and server may", p.ImportPath, imported)
			case strings.HasPrefix(imported, "github.com/containerd/containerd/") && !under(p.ImportPath, containerd...):
				t.Errorf("%s imports %s: only the containerd runtime and images may", p.ImportPath, imported)
			case under(p.ImportPath, "proto") && ours && !under(local, "proto"):
				t.Errorf("%s imports %s: proto is a leaf", p.ImportPath, local)
			case under(p.ImportPath, "controlplane/model") && ours && !under(local, "proto", "controlplane/model"):
				t.Errorf("%s imports %s: model imports proto alone", p.ImportPath, local)
			case under(p.ImportPath, "cni", "volumes") && ours && under(local, "agent", "controlplane", "cmd"):
				t.Errorf("%s imports %s: cni and volumes are libraries", p.ImportPath, local)
			case ours && under(local, "cmd") && !under(p.ImportPath, "cmd", "e2e"):
				t.Errorf("%s imports %s: nothing imports programs", p.ImportPath, local)
			case ours && under(local, "e2e") && !under(p.ImportPath, "cmd/plim", "e2e"):
				t.Errorf("%s imports %s: only the command line's dev mode uses the lab", p.ImportPath, local)
			}
		}
	}
}

// TestDecidersArePure: what decides does no I/O and reads no clock of its own.
func TestDecidersArePure(t *testing.T) {
	impure := []string{"os", "os/exec", "net", "net/http", "log", "log/slog", "math/rand", "crypto/rand", "io/fs", "database/sql", "syscall", "context"}
	for _, p := range packages(t) {
		if !under(p.ImportPath, "controlplane/decide", "controlplane/model") {
			continue
		}
		for _, imported := range p.Imports {
			local, ours := strings.CutPrefix(imported, module)
			if slices.Contains(impure, imported) || strings.Contains(imported, "google.golang.org/grpc") ||
				ours && !under(local, "proto", "controlplane/model", "controlplane/decide") {
				t.Errorf("%s imports %s: deciders are pure", p.ImportPath, imported)
			}
		}
	}
}

// TestProgramsLinkOnlyTheirSide keeps the agent small and the command line free
// of servers.
func TestProgramsLinkOnlyTheirSide(t *testing.T) {
	for _, p := range packages(t) {
		for _, dep := range p.Deps {
			switch {
			case p.ImportPath == "cmd/plim-agent" && (strings.HasPrefix(dep, "go.etcd.io/etcd/") || strings.HasPrefix(dep, module+"controlplane/")):
				t.Errorf("plim-agent links %s", dep)
			case p.ImportPath == "cmd/plim" && strings.HasPrefix(dep, "go.etcd.io/etcd/server"):
				t.Errorf("plim links %s", dep)
			}
		}
	}
}

// TestEveryPackageSaysWhatItIsFor asks for package documentation.
func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" && !under(p.ImportPath, "proto/plimsoll") {
			t.Errorf("%s has no package documentation", p.ImportPath)
		}
	}
}

// TestTopLevelIsFixed: new capabilities are packages inside the folders that
// are there.
func TestTopLevelIsFixed(t *testing.T) {
	allowed := []string{"agent", "controlplane", "proto", "cni", "volumes", "deploy", "e2e", "cmd", "docs", "bin",
		"go.mod", "go.sum", "Makefile", "README.md", "CONTRIBUTING.md", "LICENSE"}
	entries, err := os.ReadDir(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s is not part of the fixed top level", e.Name())
		}
	}
}
