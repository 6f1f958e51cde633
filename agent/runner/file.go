package runner

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// writeFiles writes a container's /etc/hosts, /etc/hostname and /etc/resolv.conf.
func writeFiles(dir, hostname, address string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	resolv, err := resolvConf("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
	if err != nil {
		return err
	}
	hosts := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + address + "\t" + hostname + "\n"
	for name, data := range map[string]string{"hosts": hosts, "hostname": hostname + "\n", "resolv.conf": string(resolv)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// resolvConf is the host's resolv.conf as containers can use it. Name servers on
// the host's loopback cannot be reached from a container: if there are no
// others, those behind systemd-resolved are taken, which it lists in upstream.
func resolvConf(file, upstream string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if reachable(b) || !bytes.Contains(b, []byte("nameserver")) {
		return b, nil
	}
	if behind, err := os.ReadFile(upstream); err == nil && reachable(behind) {
		return behind, nil
	}
	return b, nil
}

// reachable says whether a resolv.conf has a name server beyond loopback.
func reachable(conf []byte) bool {
	for line := range strings.Lines(string(conf)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil && !a.IsLoopback() {
			return true
		}
	}
	return false
}
