package dockerapi

import (
	"encoding/json"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 5, time.UTC)

// running is a container with some of everything.
func running() *brig.Container {
	return &brig.Container{
		ID: brig.ID(strings.Repeat("ab", 32)), Name: "x1", Created: noon.Add(-time.Hour), Image: brig.Digest("sha256:" + strings.Repeat("a", 64)), ImageRef: "busybox",
		Platform: brig.Platform{OS: "linux", Architecture: "amd64"}, Driver: "overlay", RootFS: "0123456789abcdef", LogPath: "/r/log",
		Spec: brig.Spec{
			Entrypoint: []string{"sh", "-c"}, Cmd: []string{"echo hi"}, Labels: map[string]string{"k": "v"}, Volumes: []string{"/vol"},
			Exposed: []brig.Port{{Number: 80, Proto: "tcp"}, {Number: 90, Proto: "tcp"}}, NetworkMode: "bridge",
		},
		HostConfig: json.RawMessage(`{"Memory":104857600,"Binds":["vv:/v"]}`),
		Mounts:     []brig.MountPoint{{Type: brig.MountVolume, Name: "vv", Source: "/s", Target: "/v", RW: true}, {Type: brig.MountBind, Source: "/h", Target: "/b", Mode: "ro"}},
		Endpoints: map[string]brig.Endpoint{"bridge": {
			NetworkID: "n1n1", EndpointID: "e1", Addr4: netip.MustParsePrefix("172.17.0.2/16"), Gateway4: netip.MustParseAddr("172.17.0.1"), MAC: "02:42:ac:11:00:02",
			Ports: []brig.PortBinding{{Port: brig.Port{Number: 80, Proto: "tcp"}, HostIP: "127.0.0.1", HostPort: 8081}},
		}},
		Status: brig.Status{State: brig.Running, PID: 42, StartedAt: noon},
	}
}

func TestInspectDocument(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(c *brig.Container)
		version Version
		has     []string
		lacks   []string
	}{
		{"running", func(*brig.Container) {}, 51, []string{
			`"Path":"sh","Args":["-c","echo hi"]`, `"Created":"2026-01-02T11:00:00.000000005Z"`, `"FinishedAt":"0001-01-01T00:00:00Z"`, `"Status":"running","Running":true,"Paused":false`,
			`"ExecIDs":null`, `"Platform":"linux"`, `"Name":"/x1"`, `"Memory":104857600`, `"MemorySwap":209715200`, `"RestartPolicy":{"Name":"no","MaximumRetryCount":0}`,
			`"LogConfig":{"Type":"json-file","Config":{}}`, `"ShmSize":67108864`, `"IpcMode":"private"`, `"Dns":null`, `"OnBuild":null`, `"CapAdd":null`, `"/proc/kcore"`, `"PortBindings":{}`,
			`"Hostname":"abababababab"`, `"Volumes":{"/vol":{}}`, `"ExposedPorts":{"80/tcp":{},"90/tcp":{}}`,
			`"Bridge":"","SandboxID":"","SandboxKey":"","Ports":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8081"}],"90/tcp":null}`,
			`"IPAddress":"172.17.0.2","IPPrefixLen":16,"IPv6Gateway":"","MacAddress":"02:42:ac:11:00:02"`, `"SecondaryIPAddresses":null`, `"NetworkID":"n1n1"`,
			`{"Type":"volume","Name":"vv","Source":"/s","Destination":"/v","Driver":"local","Mode":"z","RW":true,"Propagation":""}`,
			`{"Type":"bind","Source":"/h","Destination":"/b","Mode":"ro","RW":false,"Propagation":"rprivate"}`,
		}, []string{"SizeRw", "KernelMemory", `"Health"`}},
		{"old client", func(c *brig.Container) {}, 41, []string{`"KernelMemory":0`}, nil},
		{"exited", func(c *brig.Container) { c.State, c.ExitCode, c.PID = brig.Exited, 3, 0 }, 51, []string{`"Ports":{}`, `"ExitCode":3`, `"Running":false`}, nil},
		{"never started", func(c *brig.Container) { c.State, c.Endpoints = brig.Created, nil }, 51, []string{`"Networks":{"bridge":{`, `"IPAddress":""`}, nil},
		{"shares a network", func(c *brig.Container) { c.Spec.NetworkMode, c.Endpoints = "container:y", nil }, 51, []string{`"Networks":{}`}, nil},
		{"privileged", func(c *brig.Container) { c.HostConfig = json.RawMessage(`{"Privileged":true}`) }, 51, []string{`"MaskedPaths":null`}, nil},
		{"aliases before 1.45", func(c *brig.Container) {
			c.Endpoints = map[string]brig.Endpoint{"mine": {Spec: brig.EndpointSpec{Aliases: []string{"a"}}, DNSNames: []string{"x1"}}}
		}, 44, []string{`"Aliases":["a","abababababab"]`}, nil},
		{"aliases", func(c *brig.Container) {
			c.Endpoints = map[string]brig.Endpoint{"mine": {Spec: brig.EndpointSpec{Aliases: []string{"a"}, IPv4: "10.0.0.9"}}}
		}, 45, []string{`"Aliases":["a"]`, `"IPAMConfig":{"IPv4Address":"10.0.0.9"}`}, nil},
	} {
		in := running()
		c.change(in)
		doc, err := inspectContainer(in, c.version)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.has {
			if !strings.Contains(string(b), want) {
				t.Errorf("%s: lacks %s\n%s", c.name, want, b)
			}
		}
		for _, not := range c.lacks {
			if strings.Contains(string(b), not) {
				t.Errorf("%s: has %s\n%s", c.name, not, b)
			}
		}
	}
	bad := running()
	bad.HostConfig = json.RawMessage("{")
	if _, err := inspectContainer(bad, 51); err == nil {
		t.Error("a broken host config was taken")
	}
}

func TestStatusText(t *testing.T) {
	start, end := noon.Add(-2*time.Hour), noon.Add(-3*time.Second)
	for want, s := range map[string]brig.Status{
		"Created":                      {},
		"Up 2 hours":                   {State: brig.Running, StartedAt: start},
		"Up 2 hours (Paused)":          {State: brig.Paused, StartedAt: start},
		"Restarting (1) 3 seconds ago": {State: brig.Restarting, ExitCode: 1, StartedAt: start, FinishedAt: end},
		"Exited (137) 3 seconds ago":   {State: brig.Exited, ExitCode: 137, StartedAt: start, FinishedAt: end},
		"Removal In Progress":          {State: brig.Removing},
		"Dead":                         {State: brig.Dead},
		"Up Less than a second":        {State: brig.Running, StartedAt: noon},
	} {
		if got := statusText(&brig.Container{Status: s}, noon); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestListRow(t *testing.T) {
	b, err := json.Marshal(listRowOf(running(), noon.Add(5*time.Minute), 51))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"Names":["/x1"]`, `"Command":"sh -c 'echo hi'"`, `"Status":"Up 5 minutes"`, `"State":"running"`, `"HostConfig":{"NetworkMode":"bridge"}`,
		`"Ports":[{"IP":"127.0.0.1","PrivatePort":80,"PublicPort":8081,"Type":"tcp"},{"PrivatePort":90,"Type":"tcp"}]`, `"Labels":{"k":"v"}`, `"IPAddress":"172.17.0.2"`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("lacks %s\n%s", want, b)
		}
	}
}

func TestListFilters(t *testing.T) {
	p := newPort(t, echo)
	up := running()
	old := running()
	old.ID, old.Name, old.Created = brig.ID(strings.Repeat("cd", 32)), "old", noon.Add(-2*time.Hour)
	old.Status = brig.Status{State: brig.Exited, ExitCode: 3, StartedAt: noon, FinishedAt: noon}
	old.Spec.Labels, old.Mounts = nil, nil
	old.Endpoints = map[string]brig.Endpoint{"host": {NetworkID: "h1"}}
	child := running()
	child.ID, child.Name, child.Image, child.ImageRef = brig.ID(strings.Repeat("ef", 32)), "child", p.images[1].ID, "gone:1"
	child.Status = brig.Status{}
	p.ships = []*ship{{c: child}, {c: up}, {c: old}}
	for _, c := range []struct{ query, filters, want string }{
		{"", "", "x1"},
		{"all=1", "", "child x1 old"},
		{"limit=2", "", "child x1"},
		{"", `{"status":["exited"]}`, "old"},
		{"", `{"status":{"created":true,"running":true}}`, "child x1"},
		{"all=1", `{"name":["^/?x"]}`, "x1"},
		{"all=1", `{"name":["o"]}`, "old"},
		{"all=1", `{"id":["cdcd"]}`, "old"},
		{"all=1", `{"label":["k=v"]}`, "child x1"},
		{"all=1", `{"label":["k=w"]}`, ""},
		{"all=1", `{"ancestor":["busybox"]}`, "child x1 old"},
		{"all=1", `{"ancestor":["child:latest"]}`, "child"},
		{"all=1", `{"ancestor":["nope"]}`, ""},
		{"all=1", `{"before":["x1"]}`, "old"},
		{"all=1", `{"since":["x1"]}`, "child"},
		{"all=1", `{"exited":["3"]}`, "old"},
		{"all=1", `{"exited":["0"]}`, ""},
		{"all=1", `{"volume":["vv"]}`, "child x1"},
		{"all=1", `{"volume":["/b"]}`, "child x1"},
		{"all=1", `{"network":["h1"]}`, "old"},
		{"all=1", `{"network":["bridge"]}`, "child x1"},
		{"all=1", `{"publish":["8080-8090"]}`, "x1"},
		{"all=1", `{"expose":["90/tcp"]}`, "x1"},
		{"all=1", `{"health":["none"]}`, "child x1 old"},
		{"all=1", `{"is-task":["true"]}`, ""},
	} {
		status, out := p.call("GET", "/containers/json?"+c.query+"&filters="+url.QueryEscape(c.filters), "")
		var rows []struct{ Names []string }
		if err := json.Unmarshal([]byte(out), &rows); err != nil || status != 200 {
			t.Errorf("%s %s: %d %s", c.query, c.filters, status, out)
			continue
		}
		var names []string
		for _, r := range rows {
			names = append(names, r.Names[0][1:])
		}
		if !slices.Equal(names, strings.Fields(c.want)) {
			t.Errorf("%s %s: %v, want %s", c.query, c.filters, names, c.want)
		}
	}
	for filters, want := range map[string]string{
		`{"foo":["x"]}`: "invalid filter 'foo'", `{"status":["x"]}`: "invalid filter 'status=x'", `{"exited":["x"]}`: "invalid filter 'exited=x'", `{"before":["nope"]}`: "No such container: nope",
	} {
		if status, out := p.call("GET", "/containers/json?filters="+url.QueryEscape(filters), ""); status < 400 || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s", filters, status, out)
		}
	}
	_, out := p.call("GET", "/containers/json?all=1&size=1", "")
	for _, want := range []string{`"Image":"busybox"`, `"Image":"sha256:bbb`, `"SizeRw":5,"SizeRootFs":105`} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %s: %s", want, out)
		}
	}
	if _, out := p.call("GET", "/containers/x1/json?size=1", ""); !strings.Contains(out, `"SizeRw":5,"SizeRootFs":105`) {
		t.Errorf("inspect lacks the size: %s", out)
	}
	p.ships = nil
}
