package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/integration/internal/testbed"
)

// A site is a brigd in a network namespace of its own, wired to another that stands for the network outside: what is flushed and deleted
// here disturbs nobody else.
type site struct {
	*testbed.Server
	t       *testing.T
	cli     testbed.CLI
	here    string // brigd's namespace
	outside string // the other host's
}

// Addresses of both ends of the wire.
const (
	hostIP, outsideIP   = "203.0.113.1", "203.0.113.2"
	hostIP6, outsideIP6 = "fd99::1", "fd99::2"
)

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func newSite(t *testing.T) *site {
	t.Helper()
	own(t)
	dir := filepath.Join(bed.dir, fresh("n"))
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	tag := fmt.Sprintf("bt%d-%s", os.Getpid(), fresh(""))
	s := &site{t: t, here: tag + "h", outside: tag + "o"}
	for _, ns := range []string{s.here, s.outside} {
		ip(t, "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	ip(t, "-n", s.here, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", s.outside)
	for _, end := range [][3]string{{s.here, hostIP, hostIP6}, {s.outside, outsideIP, outsideIP6}} {
		ip(t, "-n", end[0], "addr", "add", end[1]+"/24", "dev", "wire")
		ip(t, "-n", end[0], "addr", "add", end[2]+"/64", "dev", "wire", "nodad")
		ip(t, "-n", end[0], "link", "set", "wire", "up")
	}
	program := fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/run/netns/%s -- %s/brigd \"$@\"\n", s.here, bed.bin)
	if err := os.WriteFile(filepath.Join(dir, "bin", "brigd"), []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Server = testbed.NewServer(filepath.Join(dir, "bin"), dir, "--shim", filepath.Join(bed.bin, "brig-shim"))
	start(t, s.Server)
	s.cli = testbed.CLI{Host: s.Host, Config: filepath.Join(bed.dir, "config")}
	t.Cleanup(s.end)
	save, load := bed.cli.Command(bed.ctx, "save", image("busybox")), s.cli.Command(bed.ctx, "load", "-q")
	out, err := save.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	load.Stdin = out
	if err := errors.Join(save.Start(), load.Run(), save.Wait()); err != nil {
		t.Fatal("bring the image:", err)
	}
	return s
}

// end removes all containers and networks, stops brigd, and looks whether the host's side is as it was.
func (s *site) end() {
	for _, id := range strings.Fields(dockerOn(s.t, s.cli, nil, "ps", "-aq").Out) {
		dockerOn(s.t, s.cli, nil, "rm", "-f", id)
	}
	dockerOn(s.t, s.cli, nil, "network", "prune", "-f")
	id, err := s.Instance()
	if err != nil {
		s.t.Error(err)
	}
	if err := s.Stop(); err != nil {
		s.t.Error(err)
	}
	eventually(s.t, "nothing of brig is left in its namespace", func() (bool, string) {
		links, _ := s.run("ip", "-o", "link")
		rules, _ := s.run("nft", "list", "ruleset")
		left, err := s.Leftovers(true)
		text := links + rules + strings.Join(left, "\n")
		return err == nil && strings.Count(links, "\n") == 2 && !strings.Contains(rules, id) && len(left) == 0, text
	})
}

// run runs a program in brigd's namespace.
func (s *site) run(args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--net=/run/netns/" + s.here, "--"}, args...)...).CombinedOutput()
	return string(out), err
}

func (s *site) must(args ...string) {
	s.t.Helper()
	if out, err := s.run(args...); err != nil {
		s.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// in runs f on a thread in a namespace, by the name that ip netns has for it or by its path.
func in(t *testing.T, ns string, f func()) {
	t.Helper()
	if !strings.HasPrefix(ns, "/") {
		ns = "/run/netns/" + ns
	}
	file, err := os.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// ask sends a datagram or opens a connection from a namespace, and returns what comes back.
func ask(t *testing.T, ns, network, addr string) (out string) {
	t.Helper()
	in(t, ns, func() {
		c, err := net.DialTimeout(network, addr, 3*time.Second)
		if err != nil {
			out = err.Error()
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(3 * time.Second))
		io.WriteString(c, "hello\n")
		b := make([]byte, 100)
		n, err := c.Read(b)
		if out = string(b[:n]); err != nil && n == 0 {
			out = err.Error()
		}
	})
	return out
}

// answers waits until addr answers with text.
func answers(t *testing.T, ns, network, addr, text string) {
	t.Helper()
	eventually(t, network+" "+addr+" answers "+text, func() (bool, string) {
		got := ask(t, ns, network, addr)
		return strings.TrimSpace(got) == text, got
	})
}

func (s *site) docker(args ...string) string {
	s.t.Helper()
	return done(s.t, s.cli, args...)
}

// serve runs a container that answers with text on TCP port 80, and the test with it on UDP port 81: there is no program for that in the image.
func (s *site) serve(text string, args ...string) string {
	s.t.Helper()
	const server = `while :; do echo "$0" | nc -l -p 80 -w 1; done`
	id := s.docker(append(append([]string{"run", "-d"}, args...), image("busybox"), "sh", "-c", server, text)...)
	in(s.t, "/proc/"+s.docker("inspect", "-f", "{{.State.Pid}}", id)+"/ns/net", func() {
		c, err := net.ListenPacket("udp", ":81")
		if err != nil {
			s.t.Error(err)
			return
		}
		s.t.Cleanup(func() { c.Close() })
		go func() {
			for b := make([]byte, 100); ; {
				_, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				c.WriteTo([]byte(text), from)
			}
		}()
	})
	return id
}

// port is what a port of a container is published at, for IPv4 or IPv6.
func (s *site) port(id, port string, six bool) string {
	s.t.Helper()
	for line := range strings.Lines(s.docker("port", id, port)) {
		a, err := netip.ParseAddrPort(strings.TrimSpace(line))
		if err == nil && a.Addr().Is6() == six {
			return fmt.Sprint(a.Port())
		}
	}
	s.t.Fatalf("port %s of %s is not published", port, id)
	return ""
}

func TestPublishedPortsAnswerEverywhere(t *testing.T) {
	s := newSite(t)
	s.docker("network", "create", "a")
	s.docker("network", "create", "b")
	s.docker("network", "create", "--ipv6", "six")
	other := s.docker("run", "-d", "--network", "b", image("busybox"), "sleep", "1000")
	for _, net := range []string{"bridge", "a", "six"} {
		text := "from-" + net
		id := s.serve(text, "--network", net, "-p", "80", "-p", "81/udp")
		tcp, udp := s.port(id, "80/tcp", false), s.port(id, "81/udp", false)
		if six := s.port(id, "80/tcp", true); six != tcp {
			t.Errorf("%s: port %s for IPv4, %s for IPv6", net, tcp, six)
		}
		for _, from := range []string{s.here, s.outside} {
			answers(t, from, "tcp", hostIP+":"+tcp, text)
			answers(t, from, "udp", hostIP+":"+udp, text)
			answers(t, from, "tcp", "["+hostIP6+"]:"+tcp, text)
			answers(t, from, "udp", "["+hostIP6+"]:"+udp, text)
		}
		answers(t, s.here, "tcp", "127.0.0.1:"+tcp, text)
		answers(t, s.here, "udp", "127.0.0.1:"+udp, text)
		answers(t, s.here, "tcp", "[::1]:"+tcp, text)
		answers(t, s.here, "udp", "[::1]:"+udp, text)
		for what, from := range map[string]string{"itself": id, "another network": other} {
			eventually(t, "from "+what, func() (bool, string) {
				got := dockerOn(t, s.cli, nil, "exec", from, "sh", "-c", "nc -w 2 "+hostIP+" "+tcp+" </dev/null").Out
				return strings.TrimSpace(got) == text, got
			})
		}
	}
	// The container's own address is nobody's business outside, whatever routes there are.
	id := s.serve("hidden", "--network", "a", "-p", "127.0.0.1:8090:80")
	at := s.docker("inspect", "-f", "{{.NetworkSettings.Networks.a.IPAddress}}", id)
	answers(t, s.here, "tcp", "127.0.0.1:8090", "hidden")
	ip(t, "-n", s.outside, "route", "add", at+"/32", "via", hostIP)
	ip(t, "-n", s.outside, "route", "add", "127.0.0.1/32", "via", hostIP, "table", "99")
	if got := ask(t, s.outside, "tcp", at+":80"); strings.Contains(got, "hidden") {
		t.Error("an unpublished port is reached from outside")
	}
	if got := ask(t, s.outside, "tcp", hostIP+":8090"); strings.Contains(got, "hidden") {
		t.Error("a port that is published on 127.0.0.1 is reached from outside")
	}
	answers(t, s.here, "tcp", at+":80", "hidden")
	for _, c := range []struct{ args, words string }{
		{"-p 8090:80", "Bind for 0.0.0.0:8090 failed: port is already allocated"},
		{"-p 127.0.0.1:8090:80", "Bind for 127.0.0.1:8090 failed: port is already allocated"},
	} {
		r := dockerOn(t, s.cli, nil, append(append([]string{"run", "--rm"}, strings.Fields(c.args)...), image("busybox"), "true")...)
		if r.Code != 125 || !strings.Contains(r.Err, c.words) {
			t.Errorf("%s: %s", c.args, r)
		}
	}
	// A start that fails for one port holds none of the others.
	if r := dockerOn(t, s.cli, nil, "run", "--rm", "-p", "8070:70", "-p", "8090:80", image("busybox"), "true"); r.Code != 125 {
		t.Errorf("one port of two is taken: %s", r)
	}
	s.docker("run", "--rm", "-p", "8070:70", image("busybox"), "true")
	in(t, s.here, func() {
		l, err := net.Listen("tcp4", ":8091")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		if r := dockerOn(t, s.cli, nil, "run", "--rm", "-p", "8091:80", image("busybox"), "true"); r.Code != 125 || !strings.Contains(r.Err, "address already in use") {
			t.Errorf("a port that another program has: %s", r)
		}
		id := s.serve("next", "-p", "8091-8099:80")
		answers(t, s.here, "tcp", hostIP+":"+s.port(id, "80/tcp", false), "next")
	})
}

func TestContainersReachOut(t *testing.T) {
	s := newSite(t)
	s.docker("network", "create", "--ipv6", "six")
	var from string
	in(t, s.outside, func() {
		for _, l := range []string{outsideIP, outsideIP6} {
			l, err := net.Listen("tcp", net.JoinHostPort(l, "7777"))
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					fmt.Fprintln(c, "you are "+c.RemoteAddr().(*net.TCPAddr).IP.String())
					c.Close()
				}
			}()
		}
		for _, net := range []string{"bridge", "six"} {
			from = s.docker("run", "--rm", "--network", net, image("busybox"), "sh", "-c", "nc -w 5 "+outsideIP+" 7777 </dev/null")
			equal(t, "masqueraded from "+net, from, "you are "+hostIP)
		}
		from = s.docker("run", "--rm", "--network", "six", image("busybox"), "sh", "-c", "nc -w 5 "+outsideIP6+" 7777 </dev/null")
		equal(t, "masqueraded IPv6", from, "you are "+hostIP6)
	})
}

// Beside a dockerd the FORWARD chain of iptables drops; brig's own rules at its head let through what is brig's, and nothing else.
func TestForwardPolicyOfAnotherEngine(t *testing.T) {
	s := newSite(t)
	s.must("iptables", "-P", "FORWARD", "DROP")
	s.must("ip6tables", "-P", "FORWARD", "DROP")
	s.docker("network", "create", "--ipv6", "six")
	id := s.serve("through", "--network", "six", "-p", "8080:80")
	reached := func() {
		t.Helper()
		answers(t, s.outside, "tcp", hostIP+":8080", "through")
		answers(t, s.outside, "tcp", "["+hostIP6+"]:8080", "through")
		out := s.docker("exec", id, "sh", "-c", "ping -c 1 -W 5 "+outsideIP+"; ping -c 1 -W 5 "+outsideIP6)
		equal(t, "pings out", strings.Count(out, "1 packets received"), 2)
	}
	reached()
	rules, err := s.run("iptables", "-S", "FORWARD")
	if err != nil || strings.Count(rules, "-j ACCEPT") != 2 || !strings.Contains(rules, "-P FORWARD DROP") {
		t.Errorf("iptables lists: %s, %v", rules, err)
	}
	match(t, "info", s.docker("info", "-f", "{{json .Warnings}}"), "FORWARD chain of iptables drops")
	s.must("iptables", "-F", "FORWARD")
	s.must("ip6tables", "-F", "FORWARD")
	reached()
	s.docker("rm", "-f", id)
	s.docker("network", "rm", "six")
	eventually(t, "no rule is left there", func() (bool, string) {
		rules, _ := s.run("iptables", "-S", "FORWARD")
		return !strings.Contains(rules, "ACCEPT"), rules
	})
}

// Whoever deletes rules, bridges or links of brig's, they are made again, and containers go on talking.
func TestNetworksAreHealed(t *testing.T) {
	s := newSite(t)
	s.docker("network", "create", "a")
	web := s.serve("here", "--name", "web", "--network", "a", "-p", "8080:80")
	asks := s.docker("run", "-d", "--network", "a", image("busybox"), "sleep", "1000")
	whole := func(after string) {
		t.Helper()
		answers(t, s.outside, "tcp", hostIP+":8080", "here")
		answers(t, s.here, "tcp", "127.0.0.1:8080", "here")
		answers(t, s.here, "tcp", "[::1]:8080", "here")
		eventually(t, "by name after "+after, func() (bool, string) {
			out := dockerOn(t, s.cli, nil, "exec", asks, "sh", "-c", "nc -w 2 web 80 </dev/null").Out
			return strings.TrimSpace(out) == "here", out
		})
	}
	whole("nothing")
	id, err := s.Instance()
	if err != nil {
		t.Fatal(err)
	}
	netID := s.docker("network", "inspect", "-f", "{{.Id}}", "a")
	bridge := "br" + id[:4] + "-" + netID[:8]
	endpoint := s.docker("inspect", "-f", "{{.NetworkSettings.Networks.a.EndpointID}}", web)
	for _, harm := range []string{"nft flush ruleset", "nft delete table ip brig_" + id, "nft flush chain ip brig_" + id + " prerouting", "ip link del " + bridge, "ip link set " + bridge + " down",
		"ip link set v" + id[:4] + "-" + endpoint[:8] + " nomaster"} {
		f := strings.Fields(harm)
		s.must(f...)
		// What no notification tells is found by doctor, unless the check of each minute came first.
		if mended := map[string]string{"down": ",UP", "nomaster": " master " + bridge}[f[len(f)-1]]; mended != "" {
			if found := s.examine(false); !strings.Contains(found, "bridge") {
				if now, err := s.run("ip", "-o", "link", "show", f[3]); err != nil || !strings.Contains(now, mended) {
					t.Errorf("after %q doctor finds %s in %s", harm, found, now)
				}
			}
			s.examine(true)
		}
		whole(harm)
	}
	s.Kill()
	s.must("nft", "flush", "ruleset")
	s.must("ip", "link", "del", bridge)
	start(t, s.Server)
	whole("a death of brigd in which all was deleted")
	if found := s.examine(false); strings.Contains(found, `"network"`) {
		t.Errorf("doctor finds %s", found)
	}
}

// examine is brig doctor's findings.
func (s *site) examine(fix bool) string {
	s.t.Helper()
	path := "/brig/v1/doctor"
	if fix {
		path += "?fix=1"
	}
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	client := testbed.Client(s.Host)
	defer client.CloseIdleConnections()
	resp, err := client.Post("http://d"+path, "application/json", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var d struct {
		Findings []struct {
			Check, Subject, Problem string
			Note                    bool
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&d); err != nil || ctx.Err() != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range d.Findings {
		if !f.Note {
			fmt.Fprintf(&out, "%q %s: %s\n", f.Check, f.Subject, f.Problem)
		}
	}
	return out.String()
}

// brigd is killed, and while it is down names resolve and ports answer; the next one takes over what there is and goes on with it.
func TestNetworksOutliveBrigd(t *testing.T) {
	s := newSite(t)
	s.docker("network", "create", "a")
	s.docker("network", "create", "--subnet", "10.214.0.0/24", "b")
	s.serve("web", "--name", "web", "--network", "a", "-p", "8080:80")
	asks := s.docker("run", "-d", "--name", "asks", "--network", "a", "--link", "web:linked", "-p", "8081:80", image("busybox"), "sleep", "1000")
	s.docker("network", "connect", "--ip", "10.214.0.77", "--alias", "second", "b", asks)
	pid := s.docker("inspect", "-f", "{{.State.Pid}}", asks)
	before := s.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", asks)
	inAsks := func(script string) string {
		out, _ := exec.Command("nsenter", "-t", pid, "-n", "-m", "--", "/bin/busybox", "sh", "-c", script).CombinedOutput()
		return strings.TrimSpace(string(out))
	}
	for range 2 {
		s.Kill()
		answers(t, s.outside, "tcp", hostIP+":8080", "web")
		answers(t, s.here, "tcp", "127.0.0.1:8080", "web")
		answers(t, s.here, "tcp", "[::1]:8080", "web")
		for _, name := range []string{"web", "linked"} {
			eventually(t, name+" without brigd", func() (bool, string) {
				got := inAsks("nc -w 2 " + name + " 80 </dev/null")
				return got == "web", got
			})
		}
		start(t, s.Server)
		equal(t, "endpoints by the next brigd", s.docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", asks), before)
	}
	// What it took over it can change and take away.
	third := s.docker("run", "-d", "--network", "b", image("busybox"), "sleep", "1000")
	eventually(t, "names after brigd's deaths", func() (bool, string) {
		out := s.docker("exec", third, "sh", "-c", "nslookup second; true")
		return strings.Contains(out, "10.214.0.77"), out
	})
	if r := dockerOn(t, s.cli, nil, "run", "--rm", "-p", "8080:80", image("busybox"), "true"); r.Code != 125 || !strings.Contains(r.Err, "port is already allocated") {
		t.Errorf("a port that is held since before: %s", r)
	}
	if r := dockerOn(t, s.cli, nil, "run", "--rm", "--network", "b", "--ip", "10.214.0.77", image("busybox"), "true"); r.Code != 125 || !strings.Contains(r.Err, "Address already in use") {
		t.Errorf("an address that is held since before: %s", r)
	}
	s.docker("network", "disconnect", "b", asks)
	s.docker("rm", "-f", "web")
	s.docker("run", "--rm", "-p", "8080:80", image("busybox"), "true")
	s.docker("rm", "-f", third)
	s.docker("network", "rm", "b")
}

func TestNetworkOptions(t *testing.T) {
	s := newSite(t)
	s.docker("network", "create", "-o", "com.docker.network.bridge.name=mybridge", "-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.container_iface_prefix=lan",
		"-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", "named")
	s.docker("network", "create", "z")
	s.docker("network", "create", "--ipv4=false", "--ipv6", "--subnet", "fd77::/64", "six")
	s.must("ip", "link", "show", "dev", "mybridge")
	id := s.docker("run", "-d", "-p", "80", "--network", "named", image("busybox"), "sleep", "1000")
	match(t, "bound to the network's address alone", s.docker("port", id), `^80/tcp -> 127\.0\.0\.1:\d+$`)
	match(t, "mtu and prefix", s.docker("exec", id, "ip", "link", "show", "dev", "lan0"), `mtu 1400`)
	route := func() string { return s.docker("exec", id, "ip", "route", "show", "default") }
	match(t, "default route by the first of the names", route(), `dev lan0`)
	s.docker("network", "connect", "z", id)
	match(t, "default route, still", route(), `dev lan0`)
	s.docker("network", "disconnect", "z", id)
	s.docker("network", "connect", "--gw-priority", "5", "--driver-opt", "com.docker.network.endpoint.ifname=up0", "--driver-opt", "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1", "--link-local-ip", "169.254.7.7", "z", id)
	match(t, "default route by priority", route(), `dev up0`)
	match(t, "link-local address", s.docker("exec", id, "ip", "-4", "addr", "show", "up0"), `169\.254\.7\.7/16`)
	equal(t, "setting of the interface", s.docker("exec", id, "cat", "/proc/sys/net/ipv4/conf/up0/log_martians"), "1")
	equal(t, "priority shown", s.docker("inspect", "-f", "{{.NetworkSettings.Networks.z.GwPriority}}", id), "5")
	s.docker("restart", "-t", "0", id)
	match(t, "default route by priority after a restart", route(), `dev up0`)

	web := s.serve("six", "--network", "six", "--ip6", "fd77::80", "-p", "8080:80")
	equal(t, "address", s.docker("inspect", "-f", "{{.NetworkSettings.Networks.six.GlobalIPv6Address}} {{.NetworkSettings.Networks.six.IPAddress}}", web), "fd77::80")
	answers(t, s.outside, "tcp", "["+hostIP6+"]:8080", "six")
	answers(t, s.outside, "tcp", hostIP+":8080", "six") // by a relay
	answers(t, s.here, "tcp", "[::1]:8080", "six")
	for _, c := range []struct{ args, words string }{
		{"-o com.docker.network.bridge.name=mybridge", "networks have same bridge name"},
		{"-o com.docker.network.bridge.name=wire", "is not a bridge"},
		{"-o com.docker.network.bridge.gateway_mode_ipv4=routed", "gateway mode"},
		{"--subnet fd77::/60 --ipv6", "overlaps"},
		{"-d macvlan", "not supported by brig"},
	} {
		args := append([]string{"network", "create"}, append(strings.Fields(c.args), "bad")...)
		if r := dockerOn(t, s.cli, nil, args...); r.Code != 1 || !strings.Contains(r.Err, c.words) {
			t.Errorf("%s: %s", c.args, r)
		}
	}
	if r := dockerOn(t, s.cli, nil, "run", "--rm", "-p", "7:7/sctp", image("busybox"), "true"); r.Code != 0 && !strings.Contains(r.Err, "this kernel has no SCTP") {
		t.Errorf("SCTP is neither published nor refused in words: %s", r)
	}
	// A bridge that was there before stays when its network goes.
	s.must("ip", "link", "add", "theirs", "type", "bridge")
	s.docker("network", "create", "-o", "com.docker.network.bridge.name=theirs", "guest")
	s.docker("network", "rm", "guest")
	s.must("ip", "link", "show", "dev", "theirs")
	s.must("ip", "link", "del", "theirs")
}

func TestNetworkEvents(t *testing.T) {
	s := newSite(t)
	since := s.docker("info", "-f", "{{.SystemTime}}")
	s.docker("network", "create", "ev")
	id := s.docker("create", "--name", "cc", "--network", "ev", image("busybox"), "sleep", "1000")
	s.docker("start", id)
	s.docker("network", "connect", "bridge", id)
	s.docker("network", "disconnect", "ev", id)
	s.docker("rm", "-f", id)
	s.docker("network", "rm", "ev")
	s.docker("network", "prune", "-f")
	var got []string
	out := s.docker("events", "--since", since, "--until", time.Now().Add(time.Second).Format(time.RFC3339Nano), "--filter", "type=network",
		"--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.type}} {{if .Actor.Attributes.container}}c{{end}}")
	for line := range strings.Lines(out) {
		got = append(got, strings.TrimSpace(line))
	}
	want := "create ev bridge, connect ev bridge c, connect bridge bridge c, disconnect ev bridge c, disconnect bridge bridge c, destroy ev bridge, prune <no value> <no value>"
	equal(t, "events", strings.Join(got, ", "), want)
}
