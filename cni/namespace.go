package cni

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNamespace makes a network namespace, mounted at path, with loopback up.
func newNamespace(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("create namespace %s: %w", path, err)
	}
	f.Close()
	if err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), path, "none", unix.MS_BIND, "")
	}); err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("create namespace %s: %w", path, err)
	}
	ns, err := os.Open(path)
	if err != nil {
		return nil, errors.Join(err, removeNamespace(path))
	}
	return ns, nil
}

// onThread runs f on an operating system thread that is thrown away: whatever
// namespace f leaves it in, no other goroutine sees it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine.
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// removeNamespace unmounts and removes a namespace; one that is not there is no
// error.
func removeNamespace(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("unmount namespace %s: %w", path, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", path, err)
	}
	return nil
}

// loopback brings lo up in the namespace.
func loopback(ns *os.File) error {
	nl, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the namespace: %w", err)
	}
	defer nl.Close()
	return up(nl, "lo")
}

func up(nl *netlink.Handle, name string) error {
	link, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := nl.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// inside sets the task's end of the pair up, through a socket that is opened in
// the namespace: no thread has to stay there.
func inside(ns *os.File, a Attachment) error {
	nl, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink in the namespace: %w", err)
	}
	defer nl.Close()
	if err := up(nl, "lo"); err != nil {
		return err
	}
	eth, err := nl.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := nl.AddrAdd(eth, &netlink.Addr{IPNet: ipnet(a.Address)}); err != nil {
		return fmt.Errorf("give eth0 the address %s: %w", a.Address, err)
	}
	if err := nl.LinkSetUp(eth); err != nil {
		return fmt.Errorf("bring eth0 up: %w", err)
	}
	if err := nl.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: a.Gateway.AsSlice()}); err != nil {
		return fmt.Errorf("add the default route: %w", err)
	}
	return nil
}
