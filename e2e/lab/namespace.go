package lab

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// onThread runs fn on a thread of its own, which ends with it: fn may change
// the thread's namespaces, and what it starts inherits them.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		done <- fn()
	}()
	return <-done
}

// enterNet moves the calling thread into a named network namespace.
func enterNet(name string) error {
	f, err := os.Open("/run/netns/" + name)
	if err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", name, err)
	}
	return nil
}

// enterHost moves the calling thread into a host's namespaces; for process ids
// that means what the thread starts.
func enterHost(init Proc) error {
	if !init.Alive() {
		return fmt.Errorf("enter the host of process %d: it is down", init.Pid)
	}
	// A thread that shares its root directory may not change mount namespaces.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter the host of process %d: %w", init.Pid, err)
	}
	kinds := []struct {
		name string
		flag int
	}{{"net", unix.CLONE_NEWNET}, {"uts", unix.CLONE_NEWUTS}, {"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS}}
	files := make([]*os.File, len(kinds))
	for i, k := range kinds {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", init.Pid, k.name))
		if err != nil {
			return fmt.Errorf("enter the host of process %d: %w", init.Pid, err)
		}
		defer f.Close()
		files[i] = f
	}
	for i, k := range kinds {
		if err := unix.Setns(int(files[i].Fd()), k.flag); err != nil {
			return fmt.Errorf("enter the %s namespace of process %d: %w", k.name, init.Pid, err)
		}
	}
	return nil
}
