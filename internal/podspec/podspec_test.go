package podspec

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema/types"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

var id = "sha512-" + strings.Repeat("ab", 64)

// image makes an image whose app has the given fields, JSON without braces, beside a command, user and group.
func image(name, app string) Image {
	if app != "" {
		app = "," + app
	}
	m := fmt.Sprintf(`{"acKind":"ImageManifest","acVersion":"0.8.11","name":%q,"labels":[{"name":"version","value":"1"}],
		"app":{"exec":["/run","x"],"user":"0","group":"0"%s},"annotations":[{"name":"a","value":"image"},{"name":"b","value":"image"}]}`, name, app)
	return Image{Ref: name + ":1", ID: id, Manifest: []byte(m)}
}

// fromDockerImage is image as a Docker image's manifest is.
func fromDockerImage(app string) Image {
	i := image("x.org/d", app)
	i.Manifest = []byte(strings.Replace(string(i.Manifest), `"annotations":[`, `"annotations":[{"name":"appc.io/docker/imageid","value":"sha256:0"},`, 1))
	return i
}

// one reifies a pod of one app.
func one(t *testing.T, r Request, img Image) *Pod {
	t.Helper()
	p, err := Reify(r, []Image{img})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func asked(o AppOptions) Request {
	o.Image = "i"
	return Request{Apps: []AppOptions{o}}
}

func TestOptions(t *testing.T) {
	img := image("x.org/app", `"environment":[{"name":"A","value":"1"},{"name":"B","value":"2"}],"mountPoints":[{"name":"db","path":"/db"}],"ports":[{"name":"web","protocol":"tcp","port":80}]`)
	r := asked(AppOptions{
		Name: "n", Annotations: []string{"b=app", "c=app=2"}, Mounts: []string{"v:db"}, Env: []string{"B=3", "C="}, Args: []string{"y"},
		User: "u", Group: "/g", SupplementaryGIDs: []int{5, 6}, WorkingDirectory: "/w", ReadOnlyRootFS: true, Isolators: []string{`os/linux/no-new-privileges=true`},
	})
	r.Volumes, r.Ports, r.Annotations, r.Isolators = []string{"v=/host,readOnly=true"}, []string{"web:127.0.0.1:8080"}, []string{"p=q"}, []string{`resource/memory={"limit":"1G"}`}
	p := one(t, r, img)
	got := p.Apps[0]
	want := brig.Spec{
		Image: "x.org/app:1", Entrypoint: []string{"/run", "x", "y"}, Env: []string{"A=1", "B=3", "C=", "AC_APP_NAME=n", "container=brig"}, User: "u:/g",
		GroupAdd: []string{"5", "6"}, WorkingDir: "/w", CwdExists: true, ReadOnly: true, NoNewPrivileges: true, Limits: brig.Limits{Memory: 1e9}, Exposed: []brig.Port{{Number: 80, Proto: "tcp"}},
		Mounts: []brig.Mount{{Type: brig.MountBind, Source: "/host", Target: "/db", ReadOnly: true, NoCopy: true, Appc: true}},
	}
	if got.Name != "n" || !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("app %s: %+v\nwant %+v", got.Name, got.Spec, want)
	}
	if want := []brig.PortBinding{{Port: brig.Port{Number: 80, Proto: "tcp"}, HostIP: "127.0.0.1", HostPort: 8080}}; !slices.Equal(p.Ports, want) {
		t.Errorf("ports %+v", p.Ports)
	}
	if want := []string{"the pod's isolator resource/memory is modified: it holds each app, not all of them together"}; !slices.Equal(p.Warnings, want) {
		t.Errorf("warnings %q", p.Warnings)
	}
	if s := fmt.Sprint(Annotations(types.Annotations{{Name: "a", Value: "image"}, {Name: "b", Value: "image"}}, p.Manifest.Apps[0].Annotations)); s != "[{a image} {b app} {c app=2}]" {
		t.Errorf("annotations %s", s)
	}
	// The reified manifest is itself a request, and gives the same pod.
	doc, err := p.Document()
	if err != nil {
		t.Fatal(err)
	}
	again := one(t, Request{Manifest: doc, Strict: true}, img)
	if doc2, err := again.Document(); err != nil || string(doc2) != string(doc) || !reflect.DeepEqual(again.Apps, p.Apps) {
		t.Errorf("again: %v\n%s\n%s", err, doc, doc2)
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	plain := image("x.org/app", `"mountPoints":[{"name":"db","path":"/db"}],"ports":[{"name":"web","protocol":"tcp","port":65530,"count":6},{"name":"odd","protocol":"ipx","port":1}]`)
	app := func(set func(*AppOptions)) Request {
		var o AppOptions
		set(&o)
		return asked(o)
	}
	pod := func(set func(*Request)) Request {
		r := asked(AppOptions{})
		set(&r)
		return r
	}
	for want, r := range map[string]Request{
		`invalid name of an app: "A b"`:                   app(func(o *AppOptions) { o.Name = "A b" }),
		`invalid variable "A": want NAME=VALUE`:           app(func(o *AppOptions) { o.Env = []string{"A"} }),
		`does not have valid identifier "1A"`:             app(func(o *AppOptions) { o.Env = []string{"1A=1"} }),
		`invalid annotation "x": want NAME=VALUE`:         app(func(o *AppOptions) { o.Annotations = []string{"x"} }),
		`invalid annotation "X=1"`:                        app(func(o *AppOptions) { o.Annotations = []string{"X=1"} }),
		`invalid mount "v": want VOLUME:PATH`:             app(func(o *AppOptions) { o.Mounts = []string{"v"} }),
		`no mount point of that name`:                     app(func(o *AppOptions) { o.Mounts = []string{"v:dc"} }),
		`the pod has no volume v`:                         app(func(o *AppOptions) { o.Mounts = []string{"v:/x"} }),
		`workingDirectory must be an absolute path`:       app(func(o *AppOptions) { o.WorkingDirectory = "x" }),
		`user or group "a:b"`:                             app(func(o *AppOptions) { o.User = "a:b" }),
		`user or group "/a/../b": not a clean path`:       app(func(o *AppOptions) { o.Group = "/a/../b" }),
		`unknown isolator "os/x"`:                         app(func(o *AppOptions) { o.Isolators = []string{"os/x=1"} }),
		`want NAME=JSON`:                                  app(func(o *AppOptions) { o.Isolators = []string{"os/x=nil"} }),
		`os/linux/oom-score-adj must be between`:          app(func(o *AppOptions) { o.Isolators = []string{"os/linux/oom-score-adj=5000"} }),
		`invalid volume "V": ACName must contain`:         pod(func(r *Request) { r.Volumes = []string{"V"} }),
		`source for host volume must be absolute`:         pod(func(r *Request) { r.Volumes = []string{"v,kind=host,source=x"} }),
		`unknown volume parameter "size"`:                 pod(func(r *Request) { r.Volumes = []string{"v=kind=empty,size=5"} }),
		`mode "9" is not an octal number`:                 pod(func(r *Request) { r.Volumes = []string{"db,kind=empty,mode=9"} }),
		`no such uid or gid: -1, 0`:                       pod(func(r *Request) { r.Volumes = []string{"db,kind=empty,uid=-1"} }),
		`source "/a/../b" is not a clean path`:            pod(func(r *Request) { r.Volumes = []string{"db=/a/../b"} }),
		`invalid port "web": want NAME[=PORT[`:            pod(func(r *Request) { r.Ports = []string{"web"} }),
		`invalid port "web:0": the host's port`:           pod(func(r *Request) { r.Ports = []string{"web:0"} }),
		`invalid port "web=0:1": invalid port spec`:       pod(func(r *Request) { r.Ports = []string{"web=0:1"} }),
		`invalid port "web:x:1"`:                          pod(func(r *Request) { r.Ports = []string{"web:x:1"} }),
		`port web: 6 ports from 65535 on`:                 pod(func(r *Request) { r.Ports = []string{"web:65535"} }),
		`port odd: there is no protocol "ipx"`:            pod(func(r *Request) { r.Ports = []string{"odd:1"} }),
		`port wep: no app has a port of that name; those`: pod(func(r *Request) { r.Ports = []string{"wep:1"} }),
		`mount point db (/db): no volume is named for it`: pod(func(r *Request) { r.Strict = true }),
		`two apps of the pod are called "app"`:            pod(func(r *Request) { r.Apps = append(r.Apps, AppOptions{Image: "i"}) }),
		`the key "name" is there twice`:                   {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","name":"b"}]}`)},
		`the key "Apps" must be written "apps"`:           {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","Apps":[]}`)},
		`acVersion 0.9.0 is not known`:                    {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.9.0"}`)},
		`missing or bad ACKind`:                           {Manifest: []byte(`{"acKind":"ImageManifest","acVersion":"0.8.11"}`)},
		`the name of app 1 is missing`:                    {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{}]}`)},
		`has no image: give its id or its name`:           {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a"}]}`)},
		`the isolator resource/memory has no value`:       {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","isolators":[{"name":"resource/memory"}]}`)},
		`duplicate volume name "v"`:                       {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","volumes":[{"name":"v","kind":"empty"},{"name":"v","kind":"empty"}]}`)},
		`has the label version="1", not "2"`:              {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","image":{"name":"x.org/app","labels":[{"name":"version","value":"2"}]}}]}`)},
		`is called x.org/app, not x.org/b`:                {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","image":{"name":"x.org/b"}}]}`)},
		`the mounts at /db and /db/x overlap`:             {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","volumes":[{"name":"v","kind":"empty"}],"apps":[{"name":"a","image":{"name":"x.org/app"},"mounts":[{"volume":"v","path":"/db/"},{"volume":"v","path":"/db/x"}]}]}`)},
		`mount at "/x/..": not an absolute path`:          {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","volumes":[{"name":"v","kind":"empty"}],"apps":[{"name":"a","image":{"name":"x.org/app"},"mounts":[{"volume":"v","path":"/x/.."}]}]}`)},
		`a mount of app a lacks its volume or path`:       {Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","image":{"name":"x.org/app"},"mounts":[{"path":"/x"}]}]}`)},
		`the isolators os/linux/capabilities-retain-set and`: app(func(o *AppOptions) {
			o.Isolators = []string{`os/linux/capabilities-retain-set={"set":["CAP_KILL"]}`, `os/linux/capabilities-remove-set={"set":["CAP_KILL"]}`}
		}),
		`incompatible types`: app(func(o *AppOptions) {
			o.Isolators = []string{`os/linux/seccomp-retain-set={"set":["a"]}`, `os/linux/seccomp-remove-set={"set":["b"]}`}
		}),
		`the wildcard "@rkt/x" is not known here`:  app(func(o *AppOptions) { o.Isolators = []string{`os/linux/seccomp-retain-set={"set":["@rkt/x"]}`} }),
		`the request 2G is more than the limit 1G`: app(func(o *AppOptions) { o.Isolators = []string{`resource/memory={"limit":"1G","request":"2G"}`} }),
		`a limit of 1000 bytes is too low`:         app(func(o *AppOptions) { o.Isolators = []string{`resource/memory={"limit":"1k"}`} }),
		`limit -1 is not a sensible amount`:        app(func(o *AppOptions) { o.Isolators = []string{`resource/cpu={"limit":"-1"}`} }),
	} {
		wants, err := r.Images()
		if err == nil {
			images := slices.Repeat([]Image{plain}, len(wants))
			_, err = Reify(r, images)
		}
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestImagesWanted(t *testing.T) {
	r := Request{
		Manifest: []byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","image":{"name":"x.org/a","labels":[{"name":"version","value":"1"}]}},{"name":"b","image":{"id":"` + id + `"}}]}`),
		Apps:     []AppOptions{{Image: "alpine"}},
	}
	got, err := r.Images()
	want := []Wanted{{Name: "x.org/a", Labels: map[string]string{"version": "1"}}, {ID: id, Labels: map[string]string{}}, {Ref: "alpine"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := (&Request{}).Images(); !errs.Is(err, errs.Invalid) || err.Error() != "the pod has no apps" {
		t.Errorf("no apps: %v", err)
	}
}

func TestUser(t *testing.T) {
	for _, c := range []struct {
		user, group string
		docker      bool
		want        string
	}{
		{"0", "0", false, "0:0"}, {"0", "0", true, ""}, {"a", "a", false, "a:a"}, {"a", "a", true, "a"}, {"a", "b", true, "a:b"}, {"/x", "/bin/y", false, "/x:/bin/y"},
	} {
		got, err := User(&types.App{User: c.user, Group: c.group}, c.docker)
		if got != c.want || err != nil {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestIdentityOfDockerImages(t *testing.T) {
	if s := one(t, asked(AppOptions{User: "u"}), fromDockerImage("")).Apps[0].Spec; s.User != "u" || s.CwdExists {
		t.Errorf("user %q", s.User)
	}
	if s := one(t, asked(AppOptions{User: "u"}), image("x.org/a", "")).Apps[0].Spec; s.User != "u:0" {
		t.Errorf("user %q", s.User)
	}
}

func TestAppSpec(t *testing.T) {
	img := image("x.org/sub/my_app", `"eventHandlers":[{"name":"pre-start","exec":["/pre"]},{"name":"post-stop","exec":["/post","x"]}],
		"environment":[{"name":"PATH","value":"/p"},{"name":"container","value":"docker"},{"name":"AC_APP_NAME","value":"no"}],"userLabels":{"k":"v"},
		"ports":[{"name":"a","protocol":"udp","port":53,"count":2,"socketActivated":true},{"name":"b","protocol":"ipx","port":1}]`)
	img.Config = brig.ImageConfig{StopSignal: "SIGINT"}
	p := one(t, asked(AppOptions{}), img)
	want := brig.Spec{
		Image: "x.org/sub/my_app:1", Entrypoint: []string{"/run", "x"}, User: "0:0", Env: []string{"PATH=/p", "AC_APP_NAME=my-app", "container=brig"},
		Labels: map[string]string{"k": "v"}, StopSignal: "SIGINT", PreStart: []string{"/pre"}, PostStop: []string{"/post", "x"},
		Exposed: []brig.Port{{Number: 53, Proto: "udp"}, {Number: 54, Proto: "udp"}}, Sockets: []brig.Port{{Number: 53, Proto: "udp"}, {Number: 54, Proto: "udp"}},
	}
	if a := p.Apps[0]; a.Name != "my-app" || !reflect.DeepEqual(a.Spec, want) {
		t.Errorf("app %s: %+v\nwant %+v", a.Name, a.Spec, want)
	}
	if want := []string{`app my-app: port b is left out: there is no protocol "ipx"`}; !slices.Equal(p.Warnings, want) {
		t.Errorf("warnings %q", p.Warnings)
	}
}

func TestMountPoints(t *testing.T) {
	points := `"mountPoints":[{"name":"a","path":"/a"},{"name":"b","path":"/b","readOnly":true},{"name":"c","path":"/c"}]`
	r := asked(AppOptions{Mounts: []string{"v:a", "v:/d"}})
	r.Volumes = []string{"v,kind=empty,mode=1777,uid=5,gid=6", "b=/src,recursive=false", "unused"}
	for _, docker := range []bool{false, true} {
		img := image("x.org/a", points)
		if docker {
			img = fromDockerImage(points)
		}
		p := one(t, r, img)
		name := p.Apps[0].Name
		want := []brig.Mount{
			{Type: brig.MountVolume, Source: "v", Target: "/a", NoCopy: true, Appc: true}, {Type: brig.MountVolume, Source: "v", Target: "/d", NoCopy: true, Appc: true},
			{Type: brig.MountBind, Source: "/src", Target: "/b", ReadOnly: true, NonRecur: true, NoCopy: true, Appc: true},
			{Type: brig.MountVolume, Source: name + "/c", Target: "/c", NoCopy: !docker, Appc: true},
		}
		if got := p.Apps[0].Spec.Mounts; !reflect.DeepEqual(got, want) {
			t.Errorf("mounts %+v\nwant %+v", got, want)
		}
		vols := []Volume{{Key: "v", Name: "v", Mode: 0o1777, UID: 5, GID: 6}, {Key: name + "/c", App: name, Name: "c", Mode: 0o755}}
		if !slices.Equal(p.Volumes, vols) {
			t.Errorf("volumes %+v", p.Volumes)
		}
		warnings := []string{"app " + name + ": mount point c (/c) gets an empty volume: none is named for it", "volume unused: no app mounts it"}
		if !slices.Equal(p.Warnings, warnings) {
			t.Errorf("warnings %q", p.Warnings)
		}
	}
}

// Two apps share the pod's volumes, and each has those to itself that nobody named.
func TestSharedVolumes(t *testing.T) {
	img := image("x.org/a", `"mountPoints":[{"name":"shared","path":"/s"},{"name":"own","path":"/o"}]`)
	p, err := Reify(Request{Apps: []AppOptions{{Image: "i"}, {Image: "i", Name: "b"}}, Volumes: []string{"shared"}}, []Image{img, img})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range p.Volumes {
		got = append(got, v.Key)
	}
	if s := strings.Join(got, " "); s != "shared a/own b/own" {
		t.Errorf("volumes %s", s)
	}
}

func TestPorts(t *testing.T) {
	img := image("x.org/a", `"ports":[{"name":"p","protocol":"udp","port":100,"count":3}]`)
	apps := `"apps":[{"name":"a","image":{"name":"x.org/a"}},{"name":"b","image":{"name":"x.org/a"}}]`
	head := `{"acKind":"PodManifest","acVersion":"0.8.11",` + apps + `,"ports":[`
	if _, err := Reify(Request{Manifest: []byte(head + `{"name":"p","hostPort":5}]}`)}, []Image{img, img}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "the apps a, b all have") {
		t.Errorf("ambiguous: %v", err)
	}
	p, err := Reify(Request{Manifest: []byte(head + `{"name":"p","hostPort":5,"hostIP":"10.0.0.1","podPort":{"name":"p","protocol":"tcp","port":7,"count":2}}]}`)}, []Image{img, img})
	if err != nil {
		t.Fatal(err)
	}
	want := []brig.PortBinding{{Port: brig.Port{Number: 7, Proto: "tcp"}, HostIP: "10.0.0.1", HostPort: 5}, {Port: brig.Port{Number: 8, Proto: "tcp"}, HostIP: "10.0.0.1", HostPort: 6}}
	if !slices.Equal(p.Ports, want) {
		t.Errorf("ports %+v", p.Ports)
	}
	r := asked(AppOptions{})
	r.Ports = []string{"p:127.0.0.1:5", "q=9/udp:6"} // two more of p follow the first
	p = one(t, r, img)
	if got := fmt.Sprint(p.Ports); p.Ports[2].HostPort != 7 || p.Ports[3].HostPort != 6 || got != "[100/udp 101/udp 102/udp 9/udp]" {
		t.Errorf("ports by options: %s", got)
	}
}

func TestIsolators(t *testing.T) {
	for _, c := range []struct {
		isolators string
		want      func(*brig.Spec)
		results   string
	}{
		{`{"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_KILL","CAP_NET_ADMIN"]}}`, func(s *brig.Spec) {
			s.CapDrop, s.CapAdd = []string{"ALL"}, []string{"CAP_KILL", "CAP_NET_ADMIN"}
		}, "enforced"},
		{`{"name":"os/linux/capabilities-remove-set","value":{"set":["CAP_KILL"]}}`, func(s *brig.Spec) { s.CapDrop = []string{"CAP_KILL"} }, "enforced"},
		{`{"name":"os/linux/no-new-privileges","value":true}`, func(s *brig.Spec) { s.NoNewPrivileges = true }, "enforced"},
		{`{"name":"os/linux/no-new-privileges","value":true},{"name":"os/linux/no-new-privileges","value":false}`, func(*brig.Spec) {}, "enforced"},
		{`{"name":"os/linux/seccomp-remove-set","value":{"set":["reboot"],"errno":"ENOTSUP"}}`, func(s *brig.Spec) {
			s.Syscalls = &brig.Syscalls{Names: []string{"reboot"}, Errno: "ENOTSUP"}
		}, "enforced"},
		{`{"name":"os/linux/seccomp-remove-set","value":{"set":["reboot","@appc.io/empty"]}}`, func(*brig.Spec) {}, "enforced"},
		{`{"name":"os/linux/seccomp-retain-set","value":{"set":["read","write"]}}`, func(s *brig.Spec) {
			s.Syscalls = &brig.Syscalls{Retain: true, Names: []string{"read", "write"}}
		}, "enforced"},
		{`{"name":"os/linux/seccomp-retain-set","value":{"set":["read","@appc.io/all"]}}`, func(s *brig.Spec) { s.Seccomp = "unconfined" }, "enforced"},
		{`{"name":"os/linux/oom-score-adj","value":-5}`, func(s *brig.Spec) { s.OomScoreAdj = -5 }, "enforced"},
		{`{"name":"os/linux/cpu-shares","value":512}`, func(s *brig.Spec) { s.Limits.CPUShares = 512 }, "enforced"},
		{`{"name":"resource/cpu","value":{"limit":"500m","request":"250m"}}`, func(s *brig.Spec) { s.Limits.NanoCPUs, s.Limits.CPUShares = 5e8, 256 }, "enforced"},
		{`{"name":"resource/cpu","value":{"limit":2}}`, func(s *brig.Spec) { s.Limits.NanoCPUs, s.Limits.CPUShares = 2e9, 2048 }, "enforced"},
		{`{"name":"os/linux/cpu-shares","value":512},{"name":"resource/cpu","value":{"limit":2}}`, func(s *brig.Spec) {
			s.Limits.NanoCPUs, s.Limits.CPUShares = 2e9, 512
		}, "enforced enforced"},
		{`{"name":"resource/cpu","value":{"limit":2}},{"name":"os/linux/cpu-shares","value":512}`, func(s *brig.Spec) {
			s.Limits.NanoCPUs, s.Limits.CPUShares = 2e9, 512
		}, "enforced enforced"},
		{`{"name":"resource/memory","value":{"limit":"1Gi","request":"512Mi"}}`, func(s *brig.Spec) {
			s.Limits.Memory, s.Limits.MemoryReservation = 1<<30, 512<<20
		}, "enforced"},
		{`{"name":"resource/block-bandwidth","value":{"default":true,"limit":"2M"}}`, func(*brig.Spec) {}, "ignored"},
		{`{"name":"resource/block-iops","value":{"default":true,"limit":"2M"}}`, func(*brig.Spec) {}, "ignored"},
		{`{"name":"resource/network-bandwidth","value":{"default":true,"limit":"2M"}}`, func(*brig.Spec) {}, "ignored"},
		{`{"name":"os/linux/selinux-context","value":{"user":"u","role":"r","type":"t","level":"l"}}`, func(*brig.Spec) {}, "ignored"},
		{`{"name":"os/unix/sysctl","value":{"net.core.somaxconn":"1"}}`, func(*brig.Spec) {}, "ignored"},
		{`{"name":"example.com/own","value":[1]}`, func(*brig.Spec) {}, "ignored"},
	} {
		img := image("x.org/a", `"isolators":[`+c.isolators+`]`)
		p := one(t, asked(AppOptions{}), img)
		want := one(t, asked(AppOptions{}), image("x.org/a", "")).Apps[0].Spec
		c.want(&want)
		if got := p.Apps[0].Spec; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", c.isolators, got, want)
		}
		var results []string
		for _, i := range p.Isolators {
			results = append(results, i.Result)
		}
		ignored := slices.Contains(results, Ignored)
		if got := strings.Join(results, " "); got != c.results || ignored != (len(p.Warnings) == 1) {
			t.Errorf("%s: %s, warnings %q", c.isolators, got, p.Warnings)
		}
		r := asked(AppOptions{})
		r.Strict = true
		if _, err := Reify(r, []Image{img}); ignored != errs.Is(err, errs.Invalid) {
			t.Errorf("%s: strict: %v", c.isolators, err)
		}
	}
	img := image("x.org/a", `"isolators":[{"name":"os/linux/apparmor-profile","value":{"profile":"p"}}]`)
	if _, err := Reify(asked(AppOptions{}), []Image{img}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `brig has no AppArmor profiles: {"profile":"p"}`) {
		t.Errorf("apparmor: %v", err)
	}
}

func TestPodIsolators(t *testing.T) {
	head := `{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","image":{"name":"x.org/a"}},{"name":"b","image":{"name":"x.org/a"},
		"app":{"exec":["/b"],"user":"0","group":"0","isolators":[{"name":"resource/memory","value":{"limit":"16M"}}]}}],"isolators":[`
	doc := head + `{"name":"resource/memory","value":{"limit":"100M"}},{"name":"os/unix/sysctl","value":{"net.core.somaxconn":"5"}},{"name":"os/linux/oom-score-adj","value":1},{"name":"x/y","value":1}]}`
	img := image("x.org/a", `"isolators":[{"name":"resource/memory","value":{"limit":"1G","request":"500M"}},{"name":"z","value":1}]`)
	p, err := Reify(Request{Manifest: []byte(doc)}, []Image{img, img})
	if err != nil {
		t.Fatal(err)
	}
	a, b := p.Apps[0].Spec, p.Apps[1].Spec
	if a.Limits.Memory != 100e6 || a.Limits.MemoryReservation != 100e6 || b.Limits.Memory != 16e6 {
		t.Errorf("limits %+v, %+v", a.Limits, b.Limits)
	}
	if a.Sysctls["net.core.somaxconn"] != "5" || b.Sysctls["net.core.somaxconn"] != "5" || a.OomScoreAdj != 0 {
		t.Errorf("sysctls %v %v", a.Sysctls, b.Sysctls)
	}
	got, _ := json.Marshal(p.Isolators)
	want := `[{"name":"resource/memory","result":"modified","why":"it holds each app, not all of them together"},{"name":"os/unix/sysctl","result":"enforced"},` +
		`{"name":"os/linux/oom-score-adj","result":"ignored","why":"it is for apps, not for pods"},{"name":"x/y","result":"ignored","why":"it is unknown"},` +
		`{"app":"a","name":"resource/memory","result":"modified","why":"the pod's limit is lower"},{"app":"a","name":"z","result":"ignored","why":"it is unknown"},` +
		`{"app":"b","name":"resource/memory","result":"enforced"}]`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if _, err := p.Document(); err != nil {
		t.Error(err)
	}
}

func FuzzReify(f *testing.F) {
	img := image("x.org/a", `"isolators":[{"name":"resource/cpu","value":{"limit":"1"}}],"mountPoints":[{"name":"m","path":"/m"}],"ports":[{"name":"p","protocol":"tcp","port":1}]`)
	f.Add([]byte(`{"acKind":"PodManifest","acVersion":"0.8.11","apps":[{"name":"a","image":{"name":"x.org/a"},"app":{"exec":["x"],"user":"0","group":"0","isolators":[{"name":"resource/memory","value":null}]}}],"isolators":[{"name":"x","value":1}]}`), img.Manifest)
	f.Fuzz(func(t *testing.T, pod, manifest []byte) {
		r := Request{Manifest: pod, Apps: []AppOptions{{Image: "i"}}}
		w, err := r.Images()
		if err != nil {
			return
		}
		images := slices.Repeat([]Image{img}, len(w))
		images[len(w)-1].Manifest = manifest
		if p, err := Reify(r, images); err == nil {
			if _, err := p.Document(); err != nil {
				t.Error(err)
			}
		}
	})
}
