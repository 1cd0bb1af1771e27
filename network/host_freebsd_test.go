package network

import (
	"context"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

// sh runs a program of the host's and returns what it prints.
func sh(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", argv, err, out)
	}
	return string(out)
}

// within runs inside in a jail and returns what it prints.
func within(t *testing.T, jail, what string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("jexec", jail, self)
	cmd.Env = append(os.Environ(), insideEnv+"="+what)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// serveIn answers in a jail until the test has ended.
func serveIn(t *testing.T, jail, addr, text string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("jexec", jail, self)
	cmd.Env = append(os.Environ(), insideEnv+"=serve "+addr+" "+text)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
}

// ready waits until got says want.
func ready(t *testing.T, what, want string, got func() string) {
	t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if last = got(); strings.HasPrefix(last, want) {
			return
		}
	}
	t.Errorf("%s: %q, not %q", what, last, want)
}

// firewalled gives the host pf with brig's anchors, as doctor asks for, until the test has ended.
func firewalled(t *testing.T) {
	t.Helper()
	exec.Command("kldload", "pf").Run() // it may be there
	exec.Command("kldload", "if_bridge").Run()
	exec.Command("kldload", "if_epair").Run()
	load := exec.Command("pfctl", "-f", "-")
	load.Stdin = strings.NewReader(strings.Join(pfAnchors, "\n") + "\n")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("pfctl: %v\n%s", err, out)
	}
	exec.Command("pfctl", "-e").Run()
	t.Cleanup(func() { exec.Command("pfctl", "-d").Run(); exec.Command("pfctl", "-F", "all").Run() })
}

// outside makes a jail that stands for another host, at 198.51.100.2; this one is 198.51.100.1 there, and its router.
func outside(t *testing.T) (jail string) {
	t.Helper()
	jail = "brigtest-outside"
	a := strings.TrimSpace(sh(t, "ifconfig", "epair", "create"))
	t.Cleanup(func() { exec.Command("ifconfig", a, "destroy").Run(); exec.Command("jail", "-R", jail).Run() })
	sh(t, "jail", "-c", "name="+jail, "path=/", "persist", "vnet")
	b := strings.TrimSuffix(a, "a") + "b"
	sh(t, "ifconfig", b, "vnet", jail)
	sh(t, "ifconfig", a, "inet", "198.51.100.1/24", "up")
	sh(t, "jexec", jail, "ifconfig", b, "inet", "198.51.100.2/24", "up")
	sh(t, "jexec", jail, "route", "-n", "add", "-inet", "default", "198.51.100.1")
	return jail
}

// world is three containers: two in one network, with a published port of the first's, one in another.
type world struct {
	n       *Networks
	recs    memory
	dir, id string
	web     *brig.Container
	jails   map[string]string
	at      map[string]netip.Addr
	gw      netip.Addr
}

func makeWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{recs: memory{}, dir: t.TempDir(), id: string(brig.NewRID()[:8]), jails: map[string]string{}, at: map[string]netip.Addr{}}
	w.n = open(t, w.recs, w.id, w.dir)
	t.Cleanup(func() { w.n.host.remove() })
	for _, name := range []string{"one", "two"} {
		if _, err := w.n.Create(ctx, brig.Network{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	port := brig.PortBinding{Port: brig.Port{Number: 80, Proto: "tcp"}, HostPort: 18080}
	for _, c := range []struct {
		name, net string
		ports     []brig.PortBinding
	}{{"web", "one", []brig.PortBinding{port}}, {"peer", "one", nil}, {"stranger", "two", nil}} {
		d := container(c.ports...)
		d.Name, d.Spec.NetworkMode = c.name, c.net
		att, err := w.n.Attach(ctx, d, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Endpoints = att.Endpoints
		ep := att.Endpoints[c.net]
		w.jails[c.name], w.at[c.name] = att.Netns.Path, ep.Addr4.Addr()
		if c.name == "web" {
			w.web, w.gw = d, ep.Gateway4
		}
		t.Cleanup(func() { w.n.Detach(context.Background(), d.ID) })
	}
	serveIn(t, w.jails["web"], ":80", "hello")
	return w
}

func TestFreeBSD(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes jails, a bridge and rules of pf")
	}
	firewalled(t)
	far := outside(t)
	w := makeWorld(t)
	direct := w.at["web"].String() + ":80"
	ready(t, "a neighbour", "hello", func() string { return within(t, w.jails["peer"], "ask "+direct) })
	ready(t, "the host", "hello", func() string { return ask(direct) })
	ready(t, "localhost", "hello", func() string { return ask("127.0.0.1:18080") })
	ready(t, "the host's address", "hello", func() string { return ask("198.51.100.1:18080") })
	for _, from := range []string{"peer", "stranger", "web"} {
		for _, at := range []string{"198.51.100.1", w.gw.String()} {
			ready(t, "published, from "+from+" at "+at, "hello", func() string { return within(t, w.jails[from], "ask "+at+":18080") })
		}
	}
	ready(t, "published, from outside", "hello to 198.51.100.2", func() string { return within(t, far, "ask 198.51.100.1:18080") })
	serveIn(t, far, ":90", "far")
	ready(t, "to the outside, with the host's address", "far to 198.51.100.1", func() string { return within(t, w.jails["peer"], "ask 198.51.100.2:90") })
	for _, from := range []string{w.jails["stranger"], far} {
		if got := within(t, from, "ask "+direct); strings.HasPrefix(got, "hello") {
			t.Errorf("from %s, unpublished: %q", from, got)
		}
	}
	ready(t, "a name", "["+w.at["web"].String(), func() string { return within(t, w.jails["peer"], "name "+w.gw.String()+":53 web") })
	if got := within(t, w.jails["stranger"], "name "+w.gw.String()+":53 web"); strings.HasPrefix(got, "[1") {
		t.Errorf("a name of another network: %q", got)
	}

	sh(t, "pfctl", "-a", pfAnchor(w.id), "-F", "all")
	ready(t, "after a flush", "hello", func() string { return within(t, far, "ask 198.51.100.1:18080") })
	sh(t, "ifconfig", w.n.find("one").Bridge, "destroy")
	ready(t, "after the bridge was destroyed", "hello", func() string { return within(t, far, "ask 198.51.100.1:18080") })
	ready(t, "neighbours after that", "hello", func() string { return within(t, w.jails["peer"], "ask "+direct) })

	// A new brigd takes over the first container; the others are gone.
	close(w.n.closing)
	w.n.tending.Wait()
	w.n.keeper.Close()
	w.n = open(t, w.recs, w.id, w.dir)
	if err := w.n.Restore(t.Context(), []*brig.Container{w.web}); err != nil {
		t.Fatal(err)
	}
	ready(t, "after a restart", "hello", func() string { return within(t, far, "ask 198.51.100.1:18080") })
	if jails := sh(t, "jls", "name"); strings.Contains(jails, w.jails["peer"]) {
		t.Errorf("jails of containers that are gone:\n%s", jails)
	}
	if err := w.n.Detach(t.Context(), w.web.ID); err != nil {
		t.Error(err)
	}
	if err := w.n.Close(); err != nil {
		t.Error(err)
	}
	for _, argv := range [][]string{{"ifconfig", "-a"}, {"jls", "name"}, {"pfctl", "-a", pfAnchor(w.id), "-s", "rules"}, {"pfctl", "-a", pfAnchor(w.id), "-s", "nat"}} {
		out, _ := exec.Command(argv[0], argv[1:]...).Output() // an anchor without rules may be gone
		if s := string(out); strings.Contains(s, w.id) || strings.Contains(s, "b"+w.id[:4]) || argv[0] == "pfctl" && s != "" {
			t.Errorf("%s shows what is left:\n%s", argv, s)
		}
	}
}

// What is written for pf is taken by pf.
func TestFreeBSDLoadsTheRules(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: loads rules into pf")
	}
	firewalled(t)
	for _, name := range []string{"local", "remote"} {
		f, err := os.Open("testdata/pf-" + name + ".conf")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("pfctl", "-a", "brig/test", "-f", "-")
		cmd.Stdin = strings.NewReader(string(text))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		var shown string
		for _, argv := range showRules("test") {
			shown += sh(t, argv...)
		}
		t.Log(shown)
		sh(t, "pfctl", "-a", "brig/test", "-F", "all")
	}
}
