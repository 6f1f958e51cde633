package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Proc is a process as the lab's file records it. Pid and StartTicks together
// name it for as long as the machine is up.
type Proc struct {
	Pid int `json:"pid"`
	// StartTicks is the start time in clock ticks since boot.
	StartTicks uint64 `json:"startTicks"`
}

// procOf records a running process.
func procOf(pid int) (Proc, error) {
	ticks, _, err := stat(pid)
	return Proc{Pid: pid, StartTicks: ticks}, err
}

// stat reads a process's start time and state.
func stat(pid int) (ticks uint64, state byte, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(data))
}

// parseStat reads /proc/PID/stat; the program's name in it may hold anything.
func parseStat(s string) (ticks uint64, state byte, err error) {
	end := strings.LastIndexByte(s, ')')
	if end < 0 {
		return 0, 0, errors.New("parse process status: no program name")
	}
	fields := strings.Fields(s[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, fmt.Errorf("parse process status: %d fields", len(fields))
	}
	ticks, err = strconv.ParseUint(fields[19], 10, 64)
	return ticks, fields[0][0], err
}

// Alive says whether the process runs; one that has ended and was not waited
// for does not.
func (p Proc) Alive() bool {
	if p.Pid == 0 {
		return false
	}
	ticks, state, err := stat(p.Pid)
	return err == nil && ticks == p.StartTicks && state != 'Z' && state != 'X'
}

// open answers a pidfd of exactly this process, or -1 if it is gone.
func (p Proc) open() int {
	if p.Pid == 0 {
		return -1
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err != nil {
		return -1
	}
	// The pidfd is of what has the id now; the start time says whether that is
	// the process meant.
	if !p.Alive() {
		unix.Close(fd)
		return -1
	}
	return fd
}

// Signal sends a signal; a process that is gone is no error.
func (p Proc) Signal(sig unix.Signal) error {
	fd := p.open()
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", p.Pid, err)
	}
	return nil
}

// Wait waits until the process has ended.
func (p Proc) Wait(ctx context.Context) error {
	fd := p.open()
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", p.Pid, err)
		}
		if n > 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for process %d: %w", p.Pid, err)
		}
	}
}

// End asks the process to end and kills it after grace.
func (p Proc) End(ctx context.Context, grace time.Duration) error {
	if grace > 0 {
		if err := p.Signal(unix.SIGTERM); err != nil {
			return err
		}
		waiting, cancel := context.WithTimeout(ctx, grace)
		err := p.Wait(waiting)
		cancel()
		if err == nil {
			return nil
		}
	}
	if err := p.Signal(unix.SIGKILL); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// marker is the environment variable with which every process of a lab starts:
// its value is the data directory.
const marker = "PLIMSOLL_LAB"

// marked finds the processes that carry a lab's marker. It finds one that was
// started but not recorded, because its starter was killed in between.
func marked(dataDir string) []Proc {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var found []Proc
	for _, d := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(d))
		env, err := os.ReadFile(filepath.Join(d, "environ"))
		if err != nil || pid == os.Getpid() {
			continue
		}
		for entry := range strings.SplitSeq(string(env), "\x00") {
			if entry == marker+"="+dataDir {
				if p, err := procOf(pid); err == nil {
					found = append(found, p)
				}
				break
			}
		}
	}
	return found
}
