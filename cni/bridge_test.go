package cni

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a network and mount namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_TEST_INSIDE") == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), "CNI_TEST_INSIDE=1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		var exit *exec.ExitError
		switch err := cmd.Run(); {
		case errors.As(err, &exit):
			os.Exit(exit.ExitCode())
		case err != nil:
			fmt.Fprintln(os.Stderr, "cni: these tests need root:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "cni:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func prepare() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

func newBridge(t testing.TB, dir string, change ...func(*BridgeConfig)) *Bridge {
	t.Helper()
	c := BridgeConfig{NetNSDir: filepath.Join(dir, "netns"), StateDir: filepath.Join(dir, "state"),
		Name: "plmtest0", TableName: "plmtest", PortRange: [2]int{33000, 34000}}
	for _, f := range change {
		f(&c)
	}
	b, err := NewBridge(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// outside makes a namespace on a link of the host, 10.99.0.2 with the host at
// 10.99.0.1 and its gateway, and answers its path.
func outside(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outside")
	ns, err := newNamespace(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	host := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "plmout"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := netlink.LinkAdd(host); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(netlink.LinkDel(host), removeNamespace(path)); err != nil {
			t.Error(err)
		}
	})
	up := func(name, address string) error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(link, a), netlink.LinkSetUp(link))
	}
	err = errors.Join(up("plmout", "10.99.0.1/24"), within(path, func() error {
		return errors.Join(up("eth0", "10.99.0.2/24"), netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 99, 0, 1)}))
	}))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFromOutsideOnlyPublishedPortsAnswer(t *testing.T) {
	dir := t.TempDir()
	b := newBridge(t, dir)
	a, err := b.Add(t.Context(), "one", []PortMapping{{ContainerPort: 80, HostPort: 8081, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, a, "one", 80)
	ns := outside(t)
	from := func(address string) (got string) {
		_ = within(ns, func() error { got, _ = ask(address); return nil })
		return got
	}
	if got := from("10.99.0.1:8081"); got != "one from 10.99.0.2\n" {
		t.Errorf("the published port answers %q", got)
	}
	if got := from(a.Address.Addr().String() + ":80"); got != "" {
		t.Errorf("the task's own address answers %q", got)
	}
	if err := b.Close(false); err != nil {
		t.Error(err)
	}
	b = newBridge(t, dir, func(c *BridgeConfig) { c.Publish = netip.MustParsePrefix("127.0.0.0/8") })
	defer b.Close(true)
	if got := from("10.99.0.1:8081"); got != "" {
		t.Errorf("a port that is published on loopback answers %q from outside", got)
	}
	if got, err := ask("127.0.0.1:8081"); err != nil || got != "one from 172.30.0.1\n" {
		t.Errorf("on loopback: %q, %v", got, err)
	}
}

// serve answers "NAME" to each connection to the port inside the namespace.
func serve(t *testing.T, a Attachment, name string, port int) {
	t.Helper()
	var l net.Listener
	if err := within(a.NetNS, func() (err error) { l, err = net.Listen("tcp4", fmt.Sprintf(":%d", port)); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s from %s\n", name, c.RemoteAddr().(*net.TCPAddr).IP)
			c.Close()
		}
	}()
}

// within runs f in a namespace.
func within(path string, f func() error) error {
	return onThread(func() error {
		ns, err := netns.GetFromPath(path)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
}

func ask(address string) (string, error) {
	c, err := net.DialTimeout("tcp4", address, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	return bufio.NewReader(c).ReadString('\n')
}

func TestPublishedPortsFromEverywhere(t *testing.T) {
	b := newBridge(t, t.TempDir())
	defer func() {
		if err := b.Close(true); err != nil {
			t.Error(err)
		}
	}()
	one, err := b.Add(t.Context(), "one", []PortMapping{{ContainerPort: 80, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := b.Add(t.Context(), "two", []PortMapping{{ContainerPort: 80, HostPort: 8081, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, one, "one", 80)
	serve(t, two, "two", 80)
	published := fmt.Sprint(one.Ports[0].HostPort)
	inOne := func(address string) (got string, err error) {
		err = within(one.NetNS, func() (err error) { got, err = ask(address); return err })
		return got, err
	}
	direct := func(address string) (string, error) { return ask(address) }
	for _, c := range []struct {
		name, address, want string
		ask                 func(string) (string, error)
	}{
		{"loopback, dynamic port", "127.0.0.1:" + published, "one from 172.30.0.1\n", direct},
		{"loopback, static port", "127.0.0.1:8081", "two from 172.30.0.1\n", direct},
		{"the host's address", "172.30.0.1:8081", "two from 172.30.0.1\n", direct},
		{"the task's address", two.Address.Addr().String() + ":80", "two from 172.30.0.1\n", direct},
		{"task to task", two.Address.Addr().String() + ":80", "two from " + one.Address.Addr().String() + "\n", inOne},
		{"task to another's published port", "172.30.0.1:8081", "", inOne},
		{"task to its own published port", "172.30.0.1:" + published, "", inOne},
	} {
		got, err := c.ask(c.address)
		if err != nil || c.want != "" && got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	if err := b.Delete(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	if got, err := ask("127.0.0.1:8081"); err == nil {
		t.Errorf("a deleted task's port answers %q", got)
	}
}

func TestUDPPort(t *testing.T) {
	b := newBridge(t, t.TempDir())
	defer b.Close(true)
	a, err := b.Add(t.Context(), "u", []PortMapping{{ContainerPort: 53, Protocol: "udp"}})
	if err != nil {
		t.Fatal(err)
	}
	var server net.PacketConn
	if err := within(a.NetNS, func() (err error) { server, err = net.ListenPacket("udp4", ":53"); return err }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 64)
		if n, from, err := server.ReadFrom(buf); err == nil {
			_, _ = server.WriteTo(buf[:n], from)
		}
	}()
	c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", a.Ports[0].HostPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	_, _ = c.Write([]byte("ping"))
	buf := make([]byte, 64)
	if n, err := c.Read(buf); err != nil || string(buf[:n]) != "ping" {
		t.Errorf("answer %q, %v", buf[:n], err)
	}
}

func TestPortsAreNotGivenTwice(t *testing.T) {
	b := newBridge(t, t.TempDir())
	defer b.Close(true)
	static := []PortMapping{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}}
	if _, err := b.Add(t.Context(), "a", static); err != nil {
		t.Fatal(err)
	}
	var inUse *PortInUseError
	if _, err := b.Add(t.Context(), "b", static); !errors.As(err, &inUse) || inUse.Port != 8080 {
		t.Errorf("the second task got %v", err)
	}
	l, err := net.Listen("tcp", ":8090")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := b.Add(t.Context(), "c", []PortMapping{{ContainerPort: 80, HostPort: 8090, Protocol: "tcp"}}); !errors.As(err, &inUse) {
		t.Errorf("a port that the host listens on: %v", err)
	}
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Add(t.Context(), "b", static); err != nil {
		t.Errorf("after its task was deleted: %v", err)
	}
}

func TestAddIsIdempotentAndSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	b := newBridge(t, dir)
	want, err := b.Add(t.Context(), "kept", []PortMapping{{ContainerPort: 80, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, want, "kept", 80)
	again, err := b.Add(t.Context(), "kept", nil)
	if err != nil || again.Address != want.Address || !slices.Equal(again.Ports, want.Ports) {
		t.Errorf("Add again answers %v, %v", again, err)
	}
	// Half made, as a kill in the middle leaves it.
	r, err := b.reserve("half", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ns, err := newNamespace(r.Attachment.NetNS); err != nil {
		t.Fatal(err)
	} else {
		ns.Close()
	}
	if err := b.Close(false); err != nil {
		t.Fatal(err)
	}

	b = newBridge(t, dir)
	defer b.Close(true)
	got, ok := b.Get("kept")
	if !ok || got.Address != want.Address || !slices.Equal(got.Ports, want.Ports) {
		t.Errorf("after a restart: %v, %v", got, ok)
	}
	if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", want.Ports[0].HostPort)); err != nil {
		t.Errorf("after a restart: %q, %v", answer, err)
	}
	if _, ok := b.Get("half"); ok || isNamespace(r.Attachment.NetNS) {
		t.Error("the half-made network is still there")
	}
	other, err := b.Add(t.Context(), "other", []PortMapping{{ContainerPort: 80, Protocol: "tcp"}})
	if err != nil || other.Address == want.Address || other.Ports[0] == want.Ports[0] {
		t.Errorf("a new task got %v, %v", other, err)
	}
	removed, err := b.GC(t.Context(), []string{"kept"})
	if err != nil || !slices.Equal(removed, []string{"other"}) {
		t.Errorf("GC removed %v, %v", removed, err)
	}
}

// TestRestartLeavesPortsPublished connects without a pause while processes take
// over from each other.
func TestRestartLeavesPortsPublished(t *testing.T) {
	dir := t.TempDir()
	b := newBridge(t, dir)
	a, err := b.Add(t.Context(), "kept", []PortMapping{{ContainerPort: 80, Protocol: "tcp"}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, a, "kept", 80)
	stop, ended := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { ended <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if answer, err := ask(fmt.Sprintf("127.0.0.1:%d", a.Ports[0].HostPort)); err != nil {
				t.Errorf("connection %d: %q, %v", n, answer, err)
				return
			}
			n++
		}
	}()
	for range 10 {
		if err := b.Close(false); err != nil {
			t.Error(err)
		}
		b = newBridge(t, dir)
	}
	close(stop)
	if n := <-ended; n < 10 {
		t.Errorf("only %d connections were made", n)
	}
	if err := b.Close(true); err != nil {
		t.Error(err)
	}
}

func TestManyAtOnceLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	b := newBridge(t, dir)
	links := countLinks(t)
	var wg sync.WaitGroup
	sem := make(chan struct{}, 8)
	seen := sync.Map{}
	for i := range 100 {
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			a, err := b.Add(context.Background(), fmt.Sprint("t", i), []PortMapping{{ContainerPort: 80, Protocol: "tcp"}})
			if err != nil {
				t.Error(err)
				return
			}
			if _, twice := seen.LoadOrStore(a.Address, i); twice {
				t.Errorf("address %s was given twice", a.Address)
			}
			if err := b.Delete(context.Background(), fmt.Sprint("t", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := countLinks(t); got != links {
		t.Errorf("%d links, before %d", got, links)
	}
	for _, d := range []string{"netns", "state"} {
		if left, _ := os.ReadDir(filepath.Join(dir, d)); len(left) != 0 {
			t.Errorf("%s has %d entries left", d, len(left))
		}
	}
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	if e, err := c.GetSetElements(b.nft.maps["tcp"]); err != nil || len(e) != 0 {
		t.Errorf("%d published ports are left, %v", len(e), err)
	}
	if err := b.Close(true); err != nil {
		t.Fatal(err)
	}
	if tables, err := c.ListTables(); err != nil || len(tables) != 0 {
		t.Errorf("%d tables are left, %v", len(tables), err)
	}
}

func countLinks(t *testing.T) int {
	t.Helper()
	l, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

func TestPoolGoesRoundAndEnds(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.0.0.0/29"), netip.MustParseAddr("10.0.0.1"), [2]int{1, 2})
	var got []string
	for range 5 {
		a, err := p.address()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, a.String())
	}
	if want := []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}; !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	if _, err := p.address(); !errors.Is(err, ErrNoAddress) {
		t.Errorf("a full subnet answers %v", err)
	}
	p.freeAddress(netip.MustParseAddr("10.0.0.3"))
	if a, err := p.address(); err != nil || a.String() != "10.0.0.3" {
		t.Errorf("the freed address: %v, %v", a, err)
	}
}

func TestBadInput(t *testing.T) {
	for _, m := range []PortMapping{{ContainerPort: 0, Protocol: "tcp"}, {ContainerPort: 1, HostPort: 70000, Protocol: "tcp"}, {ContainerPort: 1, Protocol: "sctp"}} {
		if checkPorts([]PortMapping{m}) == nil {
			t.Errorf("%v is accepted", m)
		}
	}
	if _, err := NewBridge(BridgeConfig{Subnet: netip.MustParsePrefix("10.0.0.0/31")}); err == nil {
		t.Error("a /31 is accepted")
	}
}

func BenchmarkAddDelete(b *testing.B) {
	br := newBridge(b, b.TempDir())
	defer br.Close(true)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		id := fmt.Sprint("b", i)
		if _, err := br.Add(context.Background(), id, []PortMapping{{ContainerPort: 80, Protocol: "tcp"}}); err != nil {
			b.Fatal(err)
		}
		if err := br.Delete(context.Background(), id); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTableOfManyPorts(t *testing.T) {
	var tasks []Attachment
	for n := range 5000 {
		tasks = append(tasks, Attachment{
			Address: netip.MustParsePrefix("172.30.1.2/16"),
			Ports:   []PortMapping{{HostPort: 20000 + n, ContainerPort: 80, Protocol: "tcp"}},
		})
	}
	for range 2 {
		r, err := newRules("plimmany", "plimmany0", netip.MustParsePrefix("172.30.0.0/16"), netip.Prefix{}, tasks)
		if err != nil {
			t.Fatal(err)
		}
		c, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.GetSetElements(r.maps["tcp"])
		if err != nil || len(got) != len(tasks) {
			t.Errorf("%d ports are in the table, %v", len(got), err)
		}
		if err := r.drop(); err != nil {
			t.Error(err)
		}
	}
}
