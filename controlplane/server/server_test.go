package server

import (
	"strings"
	"testing"
)

func TestDataDirectoryHasOneProcess(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "another plimd runs with it") {
		t.Errorf("a second process: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if lock, err = lockDir(dir); err != nil {
		t.Fatalf("after the first ended: %v", err)
	}
	lock.Close()
}

func TestReplicaKeepsItsID(t *testing.T) {
	dir := t.TempDir()
	first, err := replicaID(dir)
	if err != nil || first == "" {
		t.Fatalf("%q, %v", first, err)
	}
	if again, err := replicaID(dir); err != nil || again != first {
		t.Errorf("%q, %v, want %q", again, err, first)
	}
	if other, err := replicaID(t.TempDir()); err != nil || other == first {
		t.Errorf("another directory's is %q too, %v", other, err)
	}
}
