package dockerapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/appc/spec/schema"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/podspec"
)

// podShelf keeps what it was asked for.
type podShelf struct {
	Pods
	PodLifecycle
	set    brig.PodSettings
	r      podspec.Request
	pod    *brig.Pod
	apps   []*brig.Container
	did    []string
	refuse error
}

func (s *podShelf) PodCreate(_ context.Context, r podspec.Request, set brig.PodSettings) (*brig.Pod, *podspec.Pod, error) {
	s.r, s.set = r, set
	return s.pod, &podspec.Pod{Manifest: schema.BlankPodManifest(), Warnings: []string{"w"}, Isolators: []podspec.Isolation{{Name: "i", Result: podspec.Ignored}}}, s.refuse
}

func (s *podShelf) PodReify(_ context.Context, r podspec.Request, set brig.PodSettings) (*podspec.Pod, error) {
	s.r, s.set = r, set
	return &podspec.Pod{Manifest: schema.BlankPodManifest(), Apps: []podspec.App{{Name: "a"}}}, s.refuse
}

func (s *podShelf) PodGet(_ context.Context, ref string) (*brig.Pod, []*brig.Container, error) {
	if ref != s.pod.Name {
		return nil, nil, errs.New(errs.NotFound, "No such pod: %s", ref)
	}
	return s.pod, s.apps, nil
}

func (s *podShelf) PodRemove(_ context.Context, ref string, force bool) error {
	s.did = append(s.did, "remove "+ref+map[bool]string{true: " by force"}[force])
	return s.refuse
}

func (s *podShelf) PodStart(_ context.Context, ref string) error {
	s.did = append(s.did, "start "+ref)
	return s.refuse
}

func (s *podShelf) PodStop(_ context.Context, ref string, o brig.StopOptions) error {
	said := "stop " + ref + " " + o.Signal
	if o.Timeout != nil {
		said += map[bool]string{true: " 0", false: " later"}[*o.Timeout == 0]
	}
	s.did = append(s.did, said)
	return s.refuse
}

func (s *podShelf) PodKill(_ context.Context, ref, signal string) error {
	s.did = append(s.did, "kill "+ref+" "+signal)
	return s.refuse
}

func TestPodRoutes(t *testing.T) {
	p := newPort(t, nil)
	id := brig.ID(strings.Repeat("ab", 32))
	shelf := &podShelf{
		pod: &brig.Pod{ID: id, Name: "duo", Apps: []brig.PodApp{{Name: "a", Container: "c1"}}, Manifest: json.RawMessage(`{"acKind":"PodManifest"}`), Spec: brig.Spec{Hostname: "h"},
			Endpoints: map[string]brig.Endpoint{"bridge": {Addr4: netip.MustParsePrefix("10.0.0.2/24"), Gateway4: netip.MustParseAddr("10.0.0.1")}}},
		apps: []*brig.Container{{ID: "c1", App: "a", ImageRef: "img", Spec: brig.Spec{Entrypoint: []string{"x"}, Cmd: []string{"y"}}, Status: brig.Status{State: brig.Running, PID: 5}}},
	}
	p.server.Pods, p.server.PodLifecycle = shelf, shelf
	call := func(method, path, body string, status int) string {
		t.Helper()
		req, err := http.NewRequest(method, "http://d"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := p.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, resp.StatusCode, b, status)
		}
		return strings.TrimSpace(string(b))
	}
	order := `{"name":"duo","hostname":"h","network":"n","dns":["10.0.0.1"],"extraHosts":["x:1.2.3.4"],"shmSize":4096,"labels":{"k":"v"},"restart":"on-failure:3","remove":true,"tty":true,"stdin":true,` +
		`"apps":[{"image":"img","name":"a"}],"volumes":["v"],"strict":true}`
	got := call("POST", "/brig/v1/pods", order, 201)
	if want := `{"uuid":"` + brig.PodUUID(id) + `","name":"duo","apps":[{"name":"a","container":"c1"}],"manifest":{"acKind":"PodManifest"},"isolators":[{"name":"i","result":"ignored"}],"warnings":["w"]}`; got != want {
		t.Errorf("made: %s\nwant %s", got, want)
	}
	s := shelf.set.Spec
	if shelf.set.Name != "duo" || !shelf.set.AutoRemove || s.Hostname != "h" || s.NetworkMode != "n" || s.DNS.Servers[0] != "10.0.0.1" || s.ExtraHosts[0] != "x:1.2.3.4" || s.ShmSize != 4096 || s.Labels["k"] != "v" ||
		s.Restart != (brig.RestartPolicy{Name: "on-failure", MaxRetries: 3}) || !s.TTY || !s.OpenStdin || !s.StdinOnce || s.Log.Driver == "" {
		t.Errorf("settings: %+v", shelf.set)
	}
	if len(shelf.r.Apps) != 1 || shelf.r.Apps[0].Image != "img" || shelf.r.Volumes[0] != "v" || !shelf.r.Strict {
		t.Errorf("request: %+v", shelf.r)
	}
	if got := call("POST", "/brig/v1/pods?dryRun=1", order, 200); !strings.HasPrefix(got, `{"apps":[{"name":"a"}],"manifest":{"acVersion":`) {
		t.Errorf("dry: %s", got)
	}
	for body, text := range map[string]string{
		"": "got EOF", "{": "invalid JSON", `{"restart":"always:3"}`: "invalid restart policy", `{"restart":"on-failure:x"}`: "invalid restart policy", `{"network":"container:x"}`: "network of a container",
		`{"dns":["x"]}`: "x", `{"hostname":"` + strings.Repeat("x", 65) + `"}`: "too long", `{"logDriver":"nosuch"}`: "nosuch", `{"shmSize":-1}`: "SHM size",
	} {
		if got := call("POST", "/brig/v1/pods", body, 400); !strings.Contains(got, text) {
			t.Errorf("%s: %s, want %q", body, got, text)
		}
	}
	info := `{"uuid":"` + brig.PodUUID(id) + `","name":"duo","state":"running","created":"0001-01-01T00:00:00Z","hostname":"h","networks":{"bridge":{"ipv4":"10.0.0.2","gateway":"10.0.0.1"}},` +
		`"apps":[{"name":"a","container":"c1","image":"img","imageID":"","state":"running","pid":5,"exitCode":0,"command":["x","y"]}],"manifest":{"acKind":"PodManifest"}}`
	if got := call("GET", "/brig/v1/pods/duo/json", "", 200); got != info {
		t.Errorf("inspect: %s\nwant %s", got, info)
	}
	call("GET", "/brig/v1/pods/nosuch/json", "", 404)
	call("POST", "/brig/v1/pods/duo/start", "", 204)
	call("POST", "/brig/v1/pods/duo/stop?t=0&signal=INT", "", 204)
	call("POST", "/brig/v1/pods/duo/stop?t=x", "", 400)
	call("POST", "/brig/v1/pods/duo/kill?signal=HUP", "", 204)
	call("DELETE", "/brig/v1/pods/duo?force=1", "", 204)
	shelf.refuse = errs.New(errs.NotModified, "so already")
	call("POST", "/brig/v1/pods/duo/start", "", 304)
	shelf.refuse = errs.New(errs.Conflict, "it runs")
	if got := call("DELETE", "/brig/v1/pods/duo", "", 409); !strings.Contains(got, "it runs") {
		t.Error(got)
	}
	if got := strings.Join(shelf.did, ", "); got != "start duo, stop duo INT 0, kill duo HUP, remove duo by force, start duo, remove duo" {
		t.Error(got)
	}
}

func TestPodState(t *testing.T) {
	of := func(states ...brig.State) (out []*brig.Container) {
		for _, s := range states {
			out = append(out, &brig.Container{Status: brig.Status{State: s}})
		}
		return out
	}
	for want, got := range map[string]string{
		"prepared": podState(&brig.Pod{}, of(brig.Created, brig.Created)), "running": podState(&brig.Pod{}, of(brig.Created, brig.Restarting)),
		"exited": podState(&brig.Pod{}, of(brig.Created, brig.Exited)), "removing": podState(&brig.Pod{Removing: true}, of(brig.Exited)),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What docker inspect shows of an app says what docker create would have to be asked for.
func TestHostConfigOfApp(t *testing.T) {
	c := &brig.Container{Pod: "u", App: "a", HostConfig: json.RawMessage("null"), Endpoints: map[string]brig.Endpoint{"n": {Ports: []brig.PortBinding{{Port: brig.Port{Number: 80, Proto: "tcp"}, HostIP: "127.0.0.1", HostPort: 8080}}}},
		Mounts: []brig.MountPoint{{Type: brig.MountVolume, Name: "v", Source: "/store/v", Target: "/v", RW: true}, {Type: brig.MountBind, Source: "/h", Target: "/b"}},
		Spec: brig.Spec{NetworkMode: "n", ReadOnly: true, CapAdd: []string{"NET_ADMIN"}, NoNewPrivileges: true, Limits: brig.Limits{Memory: 1 << 20, NanoCPUs: 5e8, Pids: 7},
			Restart: brig.RestartPolicy{Name: "always"}, DNS: brig.DNS{Servers: []string{"10.0.0.1"}}}}
	h, err := hostConfigOf(c)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(h)
	for _, want := range []string{`"NetworkMode":"n"`, `"ReadonlyRootfs":true`, `"CapAdd":["NET_ADMIN"]`, `"SecurityOpt":["no-new-privileges"]`, `"Memory":1048576,`, `"NanoCpus":500000000`, `"PidsLimit":7`,
		`"RestartPolicy":{"Name":"always"`, `"Dns":["10.0.0.1"]`, `"Binds":["v:/v","/h:/b:ro"]`, `"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("no %s in %s", want, b)
		}
	}
}
