package behaviour

// Report is what a test container sees of itself.
type Report struct {
	Args, Env              []string
	Dir, Hostname          string
	UID, GID               int
	Groups                 []int
	Capabilities, Bounding string
	NoNewPrivs, Seccomp    string
	OpenFiles              uint64
	Mounts, NetNS          string
	CanWrite               bool
}
