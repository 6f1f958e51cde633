package validate

import (
	"math/big"
	"regexp"
	"strconv"
)

var (
	cpuPattern    = regexp.MustCompile(`(?i)^([0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*vcpu$`)
	memoryPattern = regexp.MustCompile(`(?i)^([0-9]{1,6}(?:\.[0-9]{1,6})?|\.[0-9]{1,6})\s*gb$`)
	wholePattern  = regexp.MustCompile(`^[0-9]{1,9}$`)
)

// ParseCPU reads a task's CPU size in units, 1024 to a core: "512" or
// "0.5 vCPU".
func ParseCPU(s string) (units int64, ok bool) { return size(s, cpuPattern) }

// ParseMemory reads a task's memory size in MiB: "1024" or "1 GB".
func ParseMemory(s string) (mib int64, ok bool) { return size(s, memoryPattern) }

func size(s string, scaled *regexp.Regexp) (int64, bool) {
	if wholePattern.MatchString(s) {
		n, err := strconv.ParseInt(s, 10, 64)
		return n, err == nil
	}
	m := scaled.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(m[1])
	if !ok {
		return 0, false
	}
	r.Mul(r, big.NewRat(1024, 1))
	if !r.IsInt() {
		return 0, false
	}
	return r.Num().Int64(), true
}

// The bounds of sizes.
const (
	minTaskCPU   = 128       // units
	maxTaskCPU   = 192 << 10 // units
	minMemory    = 6         // MiB, of a container and of a task
	maxMemory    = 32 << 20  // MiB
	maxSharedMem = maxMemory
)

// taskSize checks a task's cpu and memory and answers them, 0 where they are
// not given or wrong.
func (p *problems) taskSize(prefix, cpu, memory string) (units, mib int64) {
	if cpu != "" {
		n, ok := ParseCPU(cpu)
		switch {
		case !ok:
			p.add(prefix+"cpu", "%s is not a CPU size: give units such as \"512\", or \"0.5 vCPU\"", quote(cpu))
		case n < minTaskCPU || n > maxTaskCPU:
			p.add(prefix+"cpu", "%s is out of range: give %d to %d units", quote(cpu), minTaskCPU, maxTaskCPU)
		default:
			units = n
		}
	}
	if memory != "" {
		n, ok := ParseMemory(memory)
		switch {
		case !ok:
			p.add(prefix+"memory", "%s is not a memory size: give MiB such as \"1024\", or \"1 GB\"", quote(memory))
		case n < minMemory || n > maxMemory:
			p.add(prefix+"memory", "%s is out of range: give %d to %d MiB", quote(memory), minMemory, maxMemory)
		default:
			mib = n
		}
	}
	return units, mib
}
