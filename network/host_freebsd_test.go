package network

import (
	"context"
	"embed"
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
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if last = got(); strings.HasPrefix(last, want) {
			return
		}
	}
	t.Errorf("%s: %q, not %q", what, last, want)
}

// closed is a pf.conf that lets nothing pass of itself but the host's own lo0, and what a test may be controlled by.
var closed = []string{pfAnchors[0], pfAnchors[1], "block drop all", "pass quick on lo0", "pass quick inet6 proto ipv6-icmp no state", "pass quick on vtnet0 no state", pfAnchors[2]}

// firewalled gives the host a pf with these rules until the test has ended.
func firewalled(t *testing.T, rules []string) {
	t.Helper()
	for _, m := range []string{"pf", "if_bridge", "if_epair"} {
		sh(t, "kldload", "-n", m)
	}
	load := exec.Command("pfctl", "-f", "-")
	load.Stdin = strings.NewReader(strings.Join(rules, "\n") + "\n")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("pfctl: %v\n%s", err, out)
	}
	exec.Command("pfctl", "-e").Run() // it may be on
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
	sh(t, "jexec", jail, "ifconfig", "lo0", "inet", "127.0.0.1/8", "up")
	sh(t, "ifconfig", b, "vnet", jail)
	sh(t, "ifconfig", a, "inet", "198.51.100.1/24", "up")
	sh(t, "jexec", jail, "ifconfig", b, "inet", "198.51.100.2/24", "up")
	sh(t, "jexec", jail, "route", "-n", "add", "-inet", "default", "198.51.100.1")
	sh(t, "ifconfig", a, "inet6", "-ifdisabled", "no_dad", "2001:db8:51::1/64")
	sh(t, "jexec", jail, "ifconfig", b, "inet6", "-ifdisabled", "no_dad", "2001:db8:51::2/64")
	sh(t, "jexec", jail, "route", "-n", "add", "-inet6", "default", "2001:db8:51::1")
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
	for name, rules := range map[string][]string{"open": pfAnchors, "closed": closed} {
		t.Run(name, func(t *testing.T) {
			firewalled(t, rules)
			live(t)
		})
	}
}

// live is three containers' life on a host whose firewall is there.
func live(t *testing.T) {
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

	one := w.n.find("one")
	if busy, err := w.n.host.taken(one.Bridge); err != nil || overlaps(busy, one.Subnets[0].Prefix) {
		t.Errorf("the bridge's own subnet %v counts as somebody's: %v, %v", one.Subnets[0].Prefix, busy, err)
	}
	sh(t, "pfctl", "-a", pfAnchor(w.id), "-F", "all")
	ready(t, "after a flush", "hello to 198.51.100.2", func() string { return within(t, far, "ask 198.51.100.1:18080") })
	sh(t, "ifconfig", w.n.find("one").Bridge, "destroy")
	ready(t, "after the bridge was destroyed", "hello to 198.51.100.2", func() string { return within(t, far, "ask 198.51.100.1:18080") })
	ready(t, "neighbours after that", "hello", func() string { return within(t, w.jails["peer"], "ask "+direct) })

	// A new brigd takes over the first container; the others are gone.
	close(w.n.closing)
	w.n.tending.Wait()
	w.n.keeper.Close()
	w.n = open(t, w.recs, w.id, w.dir)
	if err := w.n.Restore(t.Context(), []*brig.Container{w.web}); err != nil {
		t.Fatal(err)
	}
	ready(t, "after a restart", "hello to 198.51.100.2", func() string { return within(t, far, "ask 198.51.100.1:18080") })
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

// rulesOfAllKinds go along with a test program that is copied to another host.
//
//go:embed testdata/pf-*.conf
var rulesOfAllKinds embed.FS

// What is written for pf is taken by pf.
func TestFreeBSDLoadsTheRules(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: loads rules into pf")
	}
	firewalled(t, pfAnchors)
	for _, name := range []string{"local", "remote"} {
		text, err := rulesOfAllKinds.ReadFile("testdata/pf-" + name + ".conf")
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

// Internal networks, IPv6, networks without talk between containers or without the host's address, and live connections.
func TestFreeBSDKinds(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes jails, a bridge and rules of pf")
	}
	firewalled(t, closed)
	far, ctx := outside(t), t.Context()
	n := open(t, memory{}, string(brig.NewRID()[:8]), t.TempDir())
	t.Cleanup(func() { n.host.remove() })
	for _, w := range []brig.Network{{Name: "six", IPv6: true}, {Name: "inner", Internal: true}, {Name: "apart", Options: map[string]string{optICC: "false"}},
		{Name: "routed", Options: map[string]string{optMasquerade: "false"}}} {
		if _, err := n.Create(ctx, w); err != nil {
			t.Fatal(err)
		}
	}
	made := map[string]*brig.Container{}
	eps, jails := map[string]brig.Endpoint{}, map[string]string{}
	for _, net := range []string{"six", "inner", "apart", "routed"} {
		for _, name := range []string{net + "1", net + "2"} {
			d := container()
			if name == "six1" {
				d = container(brig.PortBinding{Port: brig.Port{Number: 80, Proto: "tcp"}, HostPort: 18081})
			}
			d.Name, d.Spec.NetworkMode = name, net
			att, err := n.Attach(ctx, d, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { n.Detach(context.Background(), d.ID) })
			d.Endpoints = att.Endpoints
			made[name], eps[name], jails[name] = d, att.Endpoints[net], att.Netns.Path
			serveIn(t, jails[name], ":80", name)
		}
	}
	serveIn(t, far, ":90", "far")
	at := func(name string) string { return eps[name].Addr4.Addr().String() + ":80" }
	from := func(jail, addr string) func() string { return func() string { return within(t, jail, "ask "+addr) } }
	never := func(what string, got func() string) {
		t.Helper()
		if s := got(); !strings.Contains(s, "timeout") && !strings.Contains(s, "unreachable") && !strings.Contains(s, "no route") && !strings.Contains(s, "refused") {
			t.Errorf("%s: %q", what, s)
		}
	}
	six1 := "[" + eps["six1"].Addr6.Addr().String() + "]:80"
	ready(t, "by IPv6", "six1", from(jails["six2"], six1))
	ready(t, "the host, by IPv6", "six1", func() string { return ask(six1) })
	ready(t, "published, by IPv6, from outside", "six1 to 2001:db8:51::2", from(far, "[2001:db8:51::1]:18081"))
	ready(t, "published, from outside", "six1 to 198.51.100.2", from(far, "198.51.100.1:18081"))
	ready(t, "published at ::1", "six1", func() string { return ask("[::1]:18081") })
	ready(t, "to the outside, by IPv6", "far to 2001:db8:51::1", from(jails["six2"], "[2001:db8:51::2]:90"))
	never("unpublished, by IPv6", from(far, six1))

	ready(t, "in an internal network", "inner1", from(jails["inner2"], at("inner1")))
	ready(t, "a name in an internal network", "["+eps["inner1"].Addr4.Addr().String(), func() string {
		return within(t, jails["inner2"], "name "+eps["inner2"].Resolver.String()+":53 inner1")
	})
	sh(t, "jexec", jails["inner2"], "route", "-n", "add", "-inet", "default", eps["inner2"].Resolver.String()) // as one with CAP_NET_ADMIN could
	never("out of an internal network", from(jails["inner2"], "198.51.100.2:90"))
	never("out of an internal network, to a published port", from(jails["inner2"], "198.51.100.1:18081"))
	never("into an internal network", from(far, at("inner1")))
	never("into an internal network, from another", from(jails["six1"], at("inner1")))

	never("a neighbour that is isolated", from(jails["apart2"], at("apart1")))
	ready(t, "one that is isolated, to the outside", "far to 198.51.100.1", from(jails["apart2"], "198.51.100.2:90"))

	ready(t, "without the host's address", "far to "+eps["routed1"].Addr4.Addr().String(), from(jails["routed1"], "198.51.100.2:90"))
	never("routed, but unpublished", from(far, at("routed1")))

	never("before the connection", from(jails["six1"], at("routed1")))
	all, err := n.Connect(ctx, made["six1"], "routed", brig.EndpointSpec{})
	if err != nil {
		t.Fatal(err)
	}
	ready(t, "after the connection", "routed1", from(jails["six1"], at("routed1")))
	made["six1"].Endpoints = all
	if _, err := n.Disconnect(ctx, made["six1"], "routed"); err != nil {
		t.Fatal(err)
	}
	never("after it was disconnected", from(jails["six1"], at("routed1")))
	ready(t, "published, after that", "six1 to 198.51.100.2", from(far, "198.51.100.1:18081"))
}
