package convert

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/appc/spec/schema"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

var (
	diffA = brig.DigestOf([]byte("a"))
	diffB = brig.DigestOf([]byte("b"))
)

// rootfs is a valid rootfs key with two diffIDs.
var rootfs = `"rootfs":{"type":"layers","diff_ids":["` + string(diffA) + `","` + string(diffB) + `"]}`

func TestImageConfig(t *testing.T) {
	full := `{"created":"2024-02-03T04:05:06.7Z","author":"Ahab","comment":"white","docker_version":"1.2","os":"linux","architecture":"arm","variant":"v7",
		"unknown":{"x":1},"config":{"User":"1:2","ExposedPorts":{"53/udp":{},"80":{},"8000-8002/tcp":{},"nonsense":{},"0/tcp":{}},"Env":["A=b"],"Entrypoint":["/e"],
		"Cmd":["c"],"Volumes":{"/z":{},"/a":null},"WorkingDir":"/w","Labels":{"l":"v"},"StopSignal":"SIGHUP","Shell":["/sh"],"OnBuild":["RUN x"],"ArgsEscaped":true,
		"Healthcheck":{"Test":["CMD","x"],"Interval":1000000000,"Timeout":2,"StartPeriod":3,"StartInterval":4,"Retries":5}},
		"history":[{"created":"2024-02-03T04:05:06Z","created_by":"ADD","author":"x","comment":"y"},{"empty_layer":true}],` + rootfs + `}`
	tests := []struct {
		name, config string
		want         *brig.Document
		err          string
	}{
		{"full", full, &brig.Document{
			Created: "2024-02-03T04:05:06.7Z", Platform: brig.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}, Diffs: []brig.Digest{diffA, diffB},
			History: []brig.HistoryEntry{{Created: "2024-02-03T04:05:06Z", CreatedBy: "ADD", Author: "x", Comment: "y"}, {Empty: true}},
			Config: brig.ImageConfig{User: "1:2", Env: []string{"A=b"}, Entrypoint: []string{"/e"}, Cmd: []string{"c"}, WorkingDir: "/w", Volumes: []string{"/a", "/z"},
				Exposed: []brig.Port{{Number: 53, Proto: "udp"}, {Number: 80, Proto: "tcp"}, {Number: 8000, Proto: "tcp"}, {Number: 8001, Proto: "tcp"}, {Number: 8002, Proto: "tcp"}},
				Labels:  map[string]string{"l": "v"}, StopSignal: "SIGHUP", Shell: []string{"/sh"}, OnBuild: []string{"RUN x"}, ArgsEscaped: true,
				Health: &brig.HealthCheck{Test: []string{"CMD", "x"}, Interval: time.Second, Timeout: 2, StartPeriod: 3, StartInterval: 4, Retries: 5},
				Author: "Ahab", Comment: "white", DockerVersion: "1.2"},
		}, ""},
		{"bare", `{"rootfs":{"type":"layers"}}`, &brig.Document{Platform: brig.Platform{OS: "linux", Architecture: "amd64"}}, ""},
		{"command as one string", `{"config":{"Cmd":"run me","Entrypoint":null},"created":null,"rootfs":{"type":"layers","diff_ids":null}}`,
			&brig.Document{Platform: brig.Platform{OS: "linux", Architecture: "amd64"}, Config: brig.ImageConfig{Cmd: []string{"run me"}}}, ""},
		{"no rootfs", `{"os":"linux"}`, nil, "no rootfs key"},
		{"windows rootfs", `{"rootfs":{"type":"layers+base"}}`, nil, `rootfs of type "layers+base"`},
		{"rootfs without type", `{"rootfs":{"diff_ids":[]}}`, nil, `rootfs of type ""`},
		{"bad diff", `{"rootfs":{"type":"layers","diff_ids":["sha512:00"]}}`, nil, "diff_ids[0]: invalid digest"},
		{"bad date", `{"created":"yesterday",` + rootfs + `}`, nil, "created"},
		{"not JSON", `layers`, nil, "invalid image config"},
		{"list", `[]`, nil, "invalid image config"},
		{"trailing", `{"rootfs":{"type":"layers"}} {}`, nil, "invalid image config"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := New().ImageConfig([]byte(tt.config))
			if tt.err != "" {
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v\ngot  %+v\nwant %+v", err, got, tt.want)
			}
		})
	}
}

func TestACIManifest(t *testing.T) {
	sum := brig.DigestOf([]byte("manifest"))
	config := func(os, arch, variant, inner string) string {
		return `{"os":"` + os + `","architecture":"` + arch + `","variant":"` + variant + `","config":` + inner + `,` + rootfs + `}`
	}
	tests := []struct {
		name, config, ref string
		aci               string // its name
		want              []string
		not               []string
	}{
		{"hub", config("linux", "amd64", "", `{"Entrypoint":["/e"],"Cmd":["c","<d>"]}`), "busybox", "registry-1.docker.io/library/busybox", []string{
			`"labels":[{"name":"arch","value":"amd64"},{"name":"os","value":"linux"},{"name":"version","value":"latest"}]`,
			`{"name":"appc.io/docker/originalname","value":"busybox"},{"name":"appc.io/docker/registryurl","value":"registry-1.docker.io"},{"name":"appc.io/docker/repository","value":"library/busybox"},{"name":"appc.io/docker/imageid","value":"sha256:`,
			`{"name":"appc.io/docker/manifesthash","value":"` + string(sum) + `"}`,
			`"exec":["/e","c","\u003cd\u003e"],"user":"0","group":"0"`}, nil},
		{"port and case", config("linux", "arm64", "v8", `{}`), "Reg.example:5000/a__b/c_d:V1", "reg.example_5000/a__b/c_d", []string{`"value":"aarch64"`, `"name":"version","value":"V1"`}, nil},
		{"digest", config("linux", "arm", "v7", `{}`), "quay.io/x/y:t@" + string(sum), "quay.io/x/y", []string{`"value":"armv7l"`}, []string{`"version"`}},
		{"armv6", config("linux", "arm", "v6", `{}`), "x", "registry-1.docker.io/library/x", []string{`"value":"armv6l"`}, nil},
		{"freebsd arm64", config("freebsd", "arm64", "", `{}`), "x", "registry-1.docker.io/library/x", []string{`"value":"aarch64"`, `"value":"freebsd"`}, nil},
		{"riscv", config("linux", "riscv64", "", `{}`), "x", "registry-1.docker.io/library/x", []string{`"value":"riscv64"`}, nil},
		{"unknown arch", config("linux", "mips64le", "", `{}`), "x", "registry-1.docker.io/library/x", []string{`"labels":[{"name":"os","value":"linux"}`}, []string{`"arch"`}},
		{"unknown os", config("windows", "amd64", "", `{}`), "x", "registry-1.docker.io/library/x", []string{`"labels":[{"name":"version"`}, nil},
		{"users", config("linux", "amd64", "", `{"User":"sailor:crew"}`), "x", "registry-1.docker.io/library/x", []string{`"user":"sailor","group":"crew"`}, nil},
		{"user alone", config("linux", "amd64", "", `{"User":"7:"}`), "x", "registry-1.docker.io/library/x", []string{`"user":"7","group":"7"`}, nil},
		{"environment", config("linux", "amd64", "", `{"Env":["A=1","bad name=2","NOVALUE","A=3=4","B="]}`), "x", "registry-1.docker.io/library/x",
			[]string{`"environment":[{"name":"A","value":"3=4"},{"name":"B","value":""}]`}, nil},
		{"relative directory", config("linux", "amd64", "", `{"WorkingDir":"srv/app"}`), "x", "registry-1.docker.io/library/x", []string{`"workingDirectory":"/srv/app"`}, nil},
		{"volumes", config("linux", "amd64", "", `{"Volumes":{"/b":{},"/a/b":{},"/a-b":{}}}`), "x", "registry-1.docker.io/library/x", []string{
			`"mountPoints":[{"name":"volume-a-b","path":"/a-b"},{"name":"volume-a-b-1","path":"/a/b"},{"name":"volume-b","path":"/b"}]`}, nil},
		{"ports", config("linux", "amd64", "", `{"ExposedPorts":{"9":{},"80/tcp":{},"8000-8003/udp":{},"x":{}}}`), "x", "registry-1.docker.io/library/x", []string{
			`"ports":[{"name":"80-tcp","protocol":"tcp","port":80,"count":1,"socketActivated":false},{"name":"8000-8003-udp","protocol":"udp","port":8000,"count":4,"socketActivated":false},{"name":"9","protocol":"tcp","port":9,"count":1,"socketActivated":false}]`}, nil},
		{"no config", `{"author":"A","created":"2020-01-01T00:00:00Z",` + rootfs + `}`, "x", "registry-1.docker.io/library/x", []string{
			`{"name":"author","value":"A"},{"name":"created","value":"2020-01-01T00:00:00Z"}`}, []string{`"app"`}},
		{"no reference", `{` + rootfs + `}`, "", "sha256-" + brig.DigestOf([]byte(`{`+rootfs+`}`)).Hex(), nil, []string{"originalname", "registryurl"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			name, b, err := New().ACIManifest([]byte(tt.config), tt.ref, sum)
			if err != nil || name != tt.aci {
				t.Fatalf("name %q, %v", name, err)
			}
			for _, w := range tt.want {
				if !strings.Contains(string(b), w) {
					t.Errorf("no %s in\n%s", w, b)
				}
			}
			for _, n := range tt.not {
				if strings.Contains(string(b), n) {
					t.Errorf("%s in\n%s", n, b)
				}
			}
			_, again, _ := New().ACIManifest([]byte(tt.config), tt.ref, sum)
			if string(again) != string(b) {
				t.Errorf("twice different:\n%s\n%s", b, again)
			}
			valid(t, b)
		})
	}
	if _, _, err := New().ACIManifest([]byte(`{`+rootfs+`}`), "Not A Ref", sum); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad reference: %v", err)
	}
}

// valid checks a manifest by appc's schema.
func valid(t *testing.T, b []byte) {
	t.Helper()
	var im schema.ImageManifest
	if err := json.Unmarshal(b, &im); err != nil {
		t.Errorf("not valid by the schema: %v\n%s", err, b)
	}
}

// TestManyRanges has ranges that add up to billions of ports.
func TestManyRanges(t *testing.T) {
	keys := map[string]struct{}{}
	for i := range 10_000 {
		keys[strings.Repeat("0", i%100)+"1-65535/"+[]string{"tcp", "udp", "sctp"}[i%3]+strings.Repeat("/", i/300)] = struct{}{}
	}
	list, _ := json.Marshal(keys)
	d, err := New().ImageConfig([]byte(`{"config":{"ExposedPorts":` + string(list) + `},` + rootfs + `}`))
	if err != nil || len(d.Config.Exposed) > maxPorts {
		t.Errorf("%d ports, %v", len(d.Config.Exposed), err)
	}
}
