package containerd

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// defaultCapabilities are Docker's.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities are in the kernel's order.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW",
	"CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD",
	"CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
	"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// heldCapabilities are those of allCapabilities that this process may give: its
// bounding set. All if that cannot be read.
var heldCapabilities = sync.OnceValue(func() []string {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		hex, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			break
		}
		var held []string
		for n, name := range allCapabilities {
			if bits&(1<<n) != 0 {
				held = append(held, name)
			}
		}
		return held
	}
	return allCapabilities
})

// capabilities are the default ones without drop, with add: names with or
// without CAP_, and ALL. What is added wins over what is dropped, unless that
// names it and add says ALL.
func capabilities(add, drop []string) ([]string, error) {
	addNames, addAll, err := capabilityNames(add)
	if err != nil {
		return nil, err
	}
	dropNames, dropAll, err := capabilityNames(drop)
	if err != nil {
		return nil, err
	}
	var out []string
	switch {
	case addAll:
		out = slices.Clone(heldCapabilities())
	case !dropAll:
		out = slices.Clone(defaultCapabilities)
	}
	out = slices.DeleteFunc(out, func(c string) bool { return slices.Contains(dropNames, c) })
	for _, c := range addNames {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

func capabilityNames(in []string) (names []string, all bool, err error) {
	for _, c := range in {
		c = strings.ToUpper(c)
		if c == "ALL" || c == "CAP_ALL" {
			all = true
			continue
		}
		if !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if !slices.Contains(allCapabilities, c) {
			return nil, false, fmt.Errorf("unknown capability %q", c)
		}
		names = append(names, c)
	}
	return names, all, nil
}
