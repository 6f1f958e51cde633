package validate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"

	pb "github.com/plimsoll-project/plimsoll/proto/plimsoll/v1"
)

// maxImage bounds an image's name, in characters.
const maxImage = 255

// maxStopTimeout bounds stopTimeout, in seconds.
const maxStopTimeout = 24 * 60 * 60

// container checks what a container says of itself.
func (p *problems) container(at string, c *pb.ContainerDefinition) {
	p.image(at+".image", c.GetImage())
	if c.GetCpu() < 0 || c.GetCpu() > maxTaskCPU {
		p.add(at+".cpu", "%d is out of range: give 0 to %d units", c.GetCpu(), maxTaskCPU)
	}
	p.environment(at+".environment", c.GetEnvironment())
	if d := c.GetWorkingDirectory(); d != "" && !strings.HasPrefix(d, "/") {
		p.add(at+".workingDirectory", "%s is not absolute: begin it with /", quote(d))
	}
	if h := c.GetHostname(); h != "" && !hostnamePattern.MatchString(h) {
		p.add(at+".hostname", "%s is not a host name: use 1 to 63 letters, digits, hyphens and dots", quote(h))
	}
	if s := c.GetStopTimeout(); s < 0 || s > maxStopTimeout {
		p.add(at+".stopTimeout", "%d is out of range: give 0 to %d seconds", s, maxStopTimeout)
	}
	for k := range c.GetDockerLabels() {
		if k == "" {
			p.add(at+".dockerLabels", "a label has no name: give it one")
		}
	}
	if u := c.GetUser(); u != "" && !userPattern.MatchString(u) {
		p.add(at+".user", "%s is not a user: give USER, UID, USER:GROUP or UID:GID", quote(u))
	}
	p.logs(at+".logConfiguration", c.GetLogConfiguration())
	p.ulimits(at, c.GetUlimits())
	p.linux(at+".linuxParameters", c.GetLinuxParameters())
}

func (p *problems) image(at, image string) {
	if image == "" {
		p.add(at, "required: give an image, such as nginx:1.29")
		return
	}
	if len(image) > maxImage {
		p.add(at, "it has %d characters: use at most %d", len(image), maxImage)
		return
	}
	if _, err := reference.ParseDockerRef(image); err != nil {
		p.add(at, "%s is not an image's name (%v): give [HOST/]REPOSITORY[:TAG][@DIGEST]", quote(image), err)
	}
}

// logOptions are the options that each log driver takes, as Docker and ECS
// document them.
var logOptions = map[pb.LogDriver][]string{
	pb.LogDriver_LOG_DRIVER_AWSLOGS: strings.Fields(`awslogs-create-group awslogs-credentials-endpoint awslogs-datetime-format
		awslogs-endpoint awslogs-force-flush-interval-seconds awslogs-format awslogs-group awslogs-max-buffered-events
		awslogs-multiline-pattern awslogs-region awslogs-stream awslogs-stream-prefix max-buffer-size mode tag`),
	pb.LogDriver_LOG_DRIVER_JSON_FILE: strings.Fields(`cache-compress cache-disabled cache-max-file cache-max-size compress env
		env-regex labels labels-regex max-buffer-size max-file max-size mode tag`),
}

func (p *problems) logs(at string, l *pb.LogConfiguration) {
	if l == nil {
		return
	}
	if l.GetLogDriver() == pb.LogDriver_LOG_DRIVER_UNSPECIFIED {
		p.add(at+".logDriver", "required: give json-file or awslogs")
	}
	known, ok := logOptions[l.GetLogDriver()]
	for _, name := range slices.Sorted(maps.Keys(l.GetOptions())) {
		if ok && !slices.Contains(known, name) {
			p.add(at+".options", "%s is not an option of this driver: leave it out, or give one of %s", quote(name), strings.Join(known, ", "))
		}
	}
}

func (p *problems) environment(at string, env []*pb.KeyValuePair) {
	for i, e := range env {
		if e.GetName() == "" || strings.Contains(e.GetName(), "=") {
			p.add(fmt.Sprintf("%s[%d].name", at, i), "%s is not a variable's name: give a name without =", quote(e.GetName()))
		}
	}
}

func (p *problems) ulimits(at string, limits []*pb.Ulimit) {
	seen := map[pb.UlimitName]bool{}
	for i, u := range limits {
		at := fmt.Sprintf("%s.ulimits[%d]", at, i)
		soft, hard := u.GetSoftLimit(), u.GetHardLimit()
		switch {
		case u.GetName() == pb.UlimitName_ULIMIT_NAME_UNSPECIFIED:
			p.add(at+".name", "required: give a limit's name, such as nofile")
		case seen[u.GetName()]:
			p.add(at+".name", "given twice: give each limit once")
		case u.SoftLimit == nil:
			p.add(at+".softLimit", "required: give 0 or more, or -1 for none")
		case u.HardLimit == nil:
			p.add(at+".hardLimit", "required: give 0 or more, or -1 for none")
		case soft < -1 || hard < -1:
			p.add(at, "a limit is negative: give 0 or more, or -1 for none")
		case hard != -1 && (soft == -1 || soft > hard):
			p.add(at+".softLimit", "it is above hardLimit %d: lower it", hard)
		}
		seen[u.GetName()] = true
	}
}

// The capabilities and mount options that ECS takes.
var (
	capabilities = strings.Fields(`ALL AUDIT_CONTROL AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH
		FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
		NET_BIND_SERVICE NET_BROADCAST NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT
		SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM`)
	tmpfsOptions = strings.Fields(`defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand
		nomand atime noatime diratime nodiratime bind rbind unbindable runbindable private rprivate shared rshared
		slave rslave relatime norelatime strictatime nostrictatime`)
	tmpfsSettings = []string{"mode=", "uid=", "gid=", "nr_inodes=", "nr_blocks=", "mpol="}
)

func (p *problems) linux(at string, l *pb.LinuxParameters) {
	for _, list := range []struct {
		member string
		names  []string
	}{{"add", l.GetCapabilities().GetAdd()}, {"drop", l.GetCapabilities().GetDrop()}} {
		for i, name := range list.names {
			if !slices.Contains(capabilities, name) {
				p.add(fmt.Sprintf("%s.capabilities.%s[%d]", at, list.member, i), "%s is not a capability: give ALL or a name without CAP_, such as NET_ADMIN", quote(name))
			}
		}
	}
	if l.GetSharedMemorySize() < 0 || l.GetSharedMemorySize() > maxSharedMem {
		p.add(at+".sharedMemorySize", "%d is out of range: give 0 to %d MiB", l.GetSharedMemorySize(), maxSharedMem)
	}
	seen := map[string]bool{}
	for i, t := range l.GetTmpfs() {
		at := fmt.Sprintf("%s.tmpfs[%d]", at, i)
		switch {
		case !strings.HasPrefix(t.GetContainerPath(), "/") || t.GetContainerPath() == "/":
			p.add(at+".containerPath", "%s is not a path to mount on: give an absolute one below /", quote(t.GetContainerPath()))
		case seen[t.GetContainerPath()]:
			p.add(at+".containerPath", "%s is given twice: give each path once", quote(t.GetContainerPath()))
		}
		seen[t.GetContainerPath()] = true
		if t.GetSize() < 1 || t.GetSize() > maxMemory {
			p.add(at+".size", "%d is out of range: give 1 to %d MiB", t.GetSize(), maxMemory)
		}
		for j, o := range t.GetMountOptions() {
			if !slices.Contains(tmpfsOptions, o) && !slices.ContainsFunc(tmpfsSettings, func(s string) bool { return strings.HasPrefix(o, s) }) {
				p.add(fmt.Sprintf("%s.mountOptions[%d]", at, j), "%s is not an option of tmpfs that ECS knows", quote(o))
			}
		}
	}
}
