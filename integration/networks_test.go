package integration

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// network makes a network and removes it after the test.
func network(t testing.TB, args ...string) string {
	t.Helper()
	name := fresh("net")
	ok(t, append(append([]string{"network", "create"}, args...), name)...)
	t.Cleanup(func() { docker(t, "network", "rm", name) })
	return name
}

// sleeper runs a container that does nothing.
func sleeper(t testing.TB, args ...string) string {
	t.Helper()
	return container(t, append(args, image("busybox"), "sleep", "1000")...)
}

// inside runs a command in a container and returns what it prints; its failure is no error.
func inside(t testing.TB, id string, args ...string) string {
	t.Helper()
	r := docker(t, append([]string{"exec", id}, args...)...)
	return r.Out + r.Err
}

// lookup asks the resolver of a container for the addresses of a name.
func lookup(t testing.TB, id, name string) []string {
	t.Helper()
	_, answer, _ := strings.Cut(inside(t, id, "nslookup", name), "\n\n")
	var out []string
	for line := range strings.Lines(answer) {
		if a, found := strings.CutPrefix(strings.TrimSpace(line), "Address: "); found {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// address is a container's in a network.
func address(t testing.TB, id, net string) string {
	t.Helper()
	return inspect(t, id, fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", net))
}

// resolves wants exactly these addresses.
func resolves(t testing.TB, id, name string, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, name+" resolves to "+strings.Join(want, " "), func() (bool, string) {
		got := lookup(t, id, name)
		return slices.Equal(got, want), strings.Join(got, " ")
	})
}

func TestNetworkNames(t *testing.T) {
	n, other := network(t), network(t)
	name := fresh("web")
	web := sleeper(t, "--name", name, "--network", n, "--network-alias", "www", "--hostname", "webhost")
	asks := sleeper(t, "--network", n, "--link", name+":linked")
	far := sleeper(t, "--network", other)
	ip := address(t, web, n)
	for _, x := range []string{name, "www", web[:12], name + "." + n, "linked"} {
		resolves(t, asks, x, ip)
	}
	for _, x := range []string{name, "www"} {
		resolves(t, far, x)
	}
	resolves(t, web, "linked") // only who asked for the link knows it
	match(t, "reverse lookup", inside(t, asks, "nslookup", ip), regexpQuote(name+"."+n))
	match(t, "resolv.conf", inside(t, asks, "cat", "/etc/resolv.conf"), "nameserver "+regexpQuote(resolverOf(t, n))+`\n(?s:.*)ndots:0`)
	match(t, "hosts", inside(t, web, "cat", "/etc/hosts"), "(?m)^"+regexpQuote(ip)+`\s+webhost$`)

	second := sleeper(t, "--network", n, "--network-alias", "www")
	resolves(t, asks, "www", ip, address(t, second, n))
	firsts := map[string]bool{}
	eventually(t, "both come first in turn", func() (bool, string) {
		out := inside(t, asks, "sh", "-c", "ping -c 1 -w 1 www | head -n 1")
		firsts[out] = true
		return len(firsts) > 1, out
	})
	ok(t, "rm", "-f", second)
	resolves(t, asks, "www", ip)

	renamed := fresh("renamed")
	ok(t, "rename", web, renamed)
	resolves(t, asks, renamed, ip)
	resolves(t, asks, name)
	ok(t, "kill", web)
	ok(t, "wait", web)
	resolves(t, asks, renamed)
	ok(t, "start", web)
	resolves(t, asks, renamed, address(t, web, n))
}

func TestNetworkMembership(t *testing.T) {
	a, b := network(t), network(t, "--subnet", "10.213.0.0/16", "--ip-range", "10.213.7.0/24", "--gateway", "10.213.0.9")
	web := sleeper(t, "--network", a)
	id := sleeper(t, "--network", a)
	ok(t, "network", "connect", "--ip", "10.213.44.44", "--alias", "al", b, id)
	fails(t, 1, "endpoint with name .* already exists in network "+b, "network", "connect", b, id)
	equal(t, "fixed address", address(t, id, b), "10.213.44.44")
	match(t, "second interface", inside(t, id, "ifconfig", "eth1"), `inet addr:10\.213\.44\.44 .*Mask:255\.255\.0\.0`)
	match(t, "default route by the first network", inside(t, id, "route", "-n"), `(?m)^0\.0\.0\.0 .* eth0$`)
	match(t, "hosts", inside(t, id, "cat", "/etc/hosts"), `(?m)^10\.213\.44\.44\s`)
	peer := sleeper(t, "--network", b)
	match(t, "address of the range", address(t, peer, b), `^10\.213\.7\.\d+$`)
	resolves(t, peer, "al", "10.213.44.44")
	resolves(t, id, web[:12], address(t, web, a))
	fails(t, 1, "Address already in use", "network", "connect", "--ip", "10.213.44.44", b, web)
	fails(t, 1, "has active endpoints", "network", "rm", b)
	ok(t, "restart", "-t", "0", id)
	equal(t, "fixed address after a restart", address(t, id, b), "10.213.44.44")
	resolves(t, peer, "al", "10.213.44.44")

	ok(t, "network", "disconnect", a, id)
	left := "eth1"
	if reason := hostDiffers["interface names"]; reason != "" {
		t.Log("eth0: " + reason)
		left = "eth0"
	}
	match(t, "default route by the network that is left", inside(t, id, "route", "-n"), `(?m)^0\.0\.0\.0 +10\.213\.0\.9 .* `+left+`$`)
	resolves(t, id, web[:12])
	fails(t, 1, "is not connected to", "network", "disconnect", a, id)
	ok(t, "network", "disconnect", b, id)
	equal(t, "interfaces without a network", strings.Count(inside(t, id, "ifconfig", "-a"), "eth"), 0)
	ok(t, "network", "connect", "bridge", id)
	match(t, "back by the default bridge", inside(t, id, "route", "-n"), `(?m)^0\.0\.0\.0 `)

	ok(t, "kill", id)
	ok(t, "wait", id)
	ok(t, "network", "disconnect", "bridge", id)
	ok(t, "network", "connect", "--alias", "later", b, id)
	ok(t, "start", id)
	resolves(t, peer, "later", address(t, id, b))
	equal(t, "networks", inspect(t, id, "{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{end}}"), b+" ")
	fails(t, 1, "container cannot be connected to multiple networks with one of the networks in private \\(none\\) mode", "network", "connect", "none", id)
}

func TestNetworksAreApart(t *testing.T) {
	a, b, in, lonely := network(t), network(t), network(t, "--internal"), network(t, "-o", "com.docker.network.bridge.enable_icc=false")
	serve := []string{image("busybox"), "sh", "-c", "mkdir /w; echo served >/w/index.html; exec httpd -f -p 80 -h /w"}
	web := container(t, append([]string{"--network", a}, serve...)...)
	secret := container(t, append([]string{"--network", in}, serve...)...)
	alone := container(t, append([]string{"--network", lonely}, serve...)...)
	get := func(id, addr string) string {
		return inside(t, id, "timeout", "2", "wget", "-q", "-O", "-", "http://"+addr+"/")
	}
	near, far := sleeper(t, "--network", a), sleeper(t, "--network", b)
	eventually(t, "a neighbour is reached", func() (bool, string) { got := get(near, address(t, web, a)); return got == "served\n", got })
	for what, got := range map[string]string{
		"another network":            get(far, address(t, web, a)),
		"the default bridge":         get(sleeper(t), address(t, web, a)),
		"into an internal network":   get(far, address(t, secret, in)),
		"from one that is alone":     get(sleeper(t, "--network", lonely), address(t, alone, lonely)),
		"out of an internal network": get(sleeper(t, "--network", in), address(t, web, a)),
	} {
		if strings.Contains(got, "served") {
			t.Errorf("%s: reached", what)
		}
	}
	if bed.server.Owned { // dockerd 20.10 has a default route there, and drops what goes by it
		table := inside(t, secret, "route", "-n")
		match(t, "an internal network", table, `(?m)^\d\S+ .* eth0$`)
		if strings.Contains(table, "\n0.0.0.0 ") {
			t.Errorf("a way out of an internal network:\n%s", table)
		}
	}
	eventually(t, "within an internal network", func() (bool, string) {
		got := get(sleeper(t, "--network", in), address(t, secret, in))
		return got == "served\n", got
	})
}

// TestStartWithoutNetwork starts what ran once, and what never ran, after their network has been removed.
func TestStartWithoutNetwork(t *testing.T) {
	n := network(t)
	ran := container(t, "--network", n, image("busybox"), "sh", "-c", "exit 7")
	never := made(t, ok(t, "create", "--network", n, image("busybox"), "true"))
	equal(t, "exit code", ok(t, "wait", ran), "7")
	ok(t, "network", "rm", n)
	for id, want := range map[string]string{ran: "exited 7", never: "created 128"} {
		fails(t, 1, "network [^ ]+ not found", "start", id)
		equal(t, "after a start that failed", inspect(t, id, "{{.State.Status}} {{.State.ExitCode}}"), want)
	}
}

// TestRemoveLink removes links, which are names of the linked container's besides.
func TestRemoveLink(t *testing.T) {
	name, parent := fresh("db"), fresh("web")
	db := sleeper(t, "--name", name)
	id := sleeper(t, "--name", parent, "--link", name+":one", "--link", name+":two")
	names := func() string {
		list := strings.Split(ok(t, "ps", "--no-trunc", "--filter", "id="+db, "--format", "{{.Names}}"), ",")
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	hosts := func() string {
		var found []string
		for line := range strings.Lines(inside(t, id, "cat", "/etc/hosts")) {
			if f := strings.Fields(line); len(f) == 4 && f[3] == name {
				found = append(found, f[1])
			}
		}
		return strings.Join(found, " ")
	}
	equal(t, "names", names(), name+" "+parent+"/one "+parent+"/two")
	equal(t, "by the link", inspect(t, parent+"/one", "{{.Id}}"), db)
	equal(t, "by the link", ok(t, "exec", parent+"/one", "hostname"), db[:12])
	equal(t, "hosts", hosts(), "one two")
	for words, ref := range map[string]string{
		"No such container: " + parent + "/three": parent + "/three", "No such container: nosuch/one": "nosuch/one",
		"Conflict, cannot remove the default link name of the container": parent,
	} {
		fails(t, 1, words, "rm", "--link", ref)
	}
	equal(t, "rm --link", ok(t, "rm", "--link", "/"+parent+"/one"), "/"+parent+"/one")
	equal(t, "links", inspect(t, id, "{{.HostConfig.Links}}"), "[/"+name+":/"+parent+"/two]")
	equal(t, "names after that", names(), name+" "+parent+"/two")
	equal(t, "hosts after that", hosts(), "two")
	fails(t, 1, "No such container: "+parent+"/one", "rm", "--link", parent+"/one")

	renamed := fresh("db")
	ok(t, "rename", db, renamed)
	equal(t, "links after a rename", inspect(t, id, "{{.HostConfig.Links}}"), "[/"+renamed+":/"+parent+"/two]")
	ok(t, "restart", "-t", "0", id)
	name = renamed
	equal(t, "hosts after a restart", hosts(), "two")
	match(t, "environment after a restart", inside(t, id, "env"), "(?m)^TWO_NAME=/"+parent+"/two$")
	if env := inside(t, id, "env"); strings.Contains(env, "ONE_NAME") {
		t.Errorf("the environment has the removed link: %s", env)
	}
	if !bed.server.Owned {
		return // dockerd 20.10 loses sight of a renamed container, and shows links to one that is gone
	}
	ok(t, "rename", db, fresh("db")) // the hosts file says the old name until the other is elsewhere
	ok(t, "stop", "-t", "0", db)
	keeper := sleeper(t) // takes the address meanwhile
	_ = keeper
	ok(t, "start", db)
	match(t, "hosts after the other's rename and restart", inside(t, id, "cat", "/etc/hosts"), "(?m)^"+regexpQuote(inspect(t, db, "{{.NetworkSettings.IPAddress}}"))+`\ttwo `)
	ok(t, "rm", "-f", db)
	equal(t, "links after the other's end", inspect(t, id, "{{.HostConfig.Links}}"), "[]")
}

func TestLegacyLinks(t *testing.T) {
	name := fresh("db")
	db := sleeper(t, "--name", name, "--expose", "5432", "-e", "A=b")
	id := sleeper(t, "--link", name+":the-db")
	line := "(?m)^" + regexpQuote(inspect(t, db, "{{.NetworkSettings.IPAddress}}")) + `\tthe-db ` + db[:12] + " " + name + "$"
	match(t, "hosts", inside(t, id, "cat", "/etc/hosts"), line)
	match(t, "environment", inside(t, id, "env"), `(?m)^THE_DB_PORT_5432_TCP_PORT=5432$`)
	match(t, "environment", inside(t, id, "env"), `(?m)^THE_DB_ENV_A=b$`)
	ok(t, "kill", db)
	ok(t, "wait", db)
	keeper := sleeper(t) // takes an address meanwhile
	ok(t, "start", db)
	_ = keeper
	line = "(?m)^" + regexpQuote(inspect(t, db, "{{.NetworkSettings.IPAddress}}")) + `\tthe-db ` + db[:12] + " " + name + "$"
	match(t, "hosts after the other's restart", inside(t, id, "cat", "/etc/hosts"), line)
	ok(t, "kill", db)
	ok(t, "wait", db)
	ok(t, "kill", id)
	ok(t, "wait", id)
	fails(t, 1, "Cannot link to a non running container: /"+name, "start", id)
	fails(t, 125, "could not get container for nosuch", "run", "--rm", "--link", "nosuch:x", image("busybox"), "true")
}
