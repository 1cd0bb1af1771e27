package dockerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/elfcheck"
	"github.com/brigd/brig/internal/errs"
)

// shelfOfFour has images of different ages, with and without names; old and new share a layer.
func shelfOfFour() []brig.ImageInfo {
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	base := brig.Layer{Chain: "sha256:base", Diff: "sha256:dbase", Size: 100}
	return []brig.ImageInfo{
		{Image: brig.Image{ID: "sha256:new", Created: at(4000), Size: 110, Platform: brig.Platform{OS: "linux", Architecture: "amd64"},
			Layers: []brig.Layer{base, {Chain: "sha256:top", Diff: "sha256:dtop", Size: 10}},
			Config: brig.ImageConfig{Labels: map[string]string{"a": "b"}, Cmd: []string{"sh"}, Exposed: []brig.Port{{Number: 80, Proto: "tcp"}}},
			ACI:    brig.ACI{Name: "example.com/app", ID: "sha512-1"}},
			Tags: []string{"app:1", "app:latest", "reg:5000/x/app:1"}, Digests: []string{"app@sha256:" + strings.Repeat("1", 64)}},
		{Image: brig.Image{ID: "sha256:used", Created: at(3000), Size: 30, Layers: []brig.Layer{{Chain: "sha256:u", Size: 30}}}, Containers: 1},
		{Image: brig.Image{ID: "sha256:none", Created: at(2000), Size: 20, Layers: []brig.Layer{{Chain: "sha256:n", Size: 20}}}},
		{Image: brig.Image{ID: "sha256:old", Created: at(1000), Size: 100, Layers: []brig.Layer{base}}, Tags: []string{"base:latest"}},
	}
}

func TestImageListFilters(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	for _, c := range []struct{ filters, want string }{
		{``, "new used none old"},
		{`{"dangling":["true"]}`, "used none"},
		{`{"dangling":{"false":true}}`, "new old"},
		{`{"label":["a"]}`, "new"},
		{`{"label":["a=c"]}`, ""},
		{`{"reference":["base"]}`, "old"},
		{`{"reference":["*:latest"]}`, "new old"},
		{`{"reference":["reg:5000/*/*"]}`, "new"},
		{`{"before":["app"]}`, "used none old"},
		{`{"since":["base"]}`, "new used none"},
		{`{"until":["2500"]}`, "none old"},
		{`{"before":["app"],"dangling":["true"]}`, "used none"},
	} {
		var got []struct{ Id string }
		body := d.want(t, 200, "GET", "/images/json?filters="+url.QueryEscape(c.filters), nil)
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err)
		}
		ids := make([]string, len(got))
		for i, g := range got {
			ids[i] = strings.TrimPrefix(g.Id, "sha256:")
		}
		if strings.Join(ids, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.filters, ids, c.want)
		}
	}
	for filter, status := range map[string]int{
		`{"x":["y"]}`: 400, `{"dangling":["maybe"]}`: 400, `{"reference":["["]}`: 400, `{"until":["soon"]}`: 400, `{"since":["nosuch"]}`: 404, `x`: 400,
	} {
		d.message(t, status, "GET", "/images/json?filters="+url.QueryEscape(filter), nil)
	}
	body := d.want(t, 200, "GET", "/images/json?filters="+url.QueryEscape(`{"reference":["app:1"]}`), nil)
	if !strings.Contains(body, `"RepoTags":["app:1"]`) {
		t.Errorf("a reference filter leaves other names: %s", body)
	}
}

func TestImageListByVersion(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	for _, c := range []struct {
		version, path, want string
		virtual             bool
	}{
		{"1.24", "/images/json", `"RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"]`, true},
		{"1.42", "/images/json", `"RepoDigests":["<none>@<none>"],"RepoTags":["<none>:<none>"]`, true},
		{"1.43", "/images/json", `"RepoDigests":[],"RepoTags":[]`, true},
		{"1.44", "/images/json", `"RepoDigests":[],"RepoTags":[]`, false},
		{"1.50", "/images/json", `"Containers":-1,"Created":3000`, false},
		{"1.51", "/images/json", `"Containers":1,"Created":3000`, false},
		{"1.51", "/images/json", `"SharedSize":-1`, false},
		{"1.51", "/images/json?shared-size=1", `"SharedSize":100,"Size":110`, false},
		{"1.51", "/images/json?manifests=1", `"Labels":null`, false},
	} {
		body := d.want(t, 200, "GET", "/v"+c.version+c.path, nil)
		if !strings.Contains(body, c.want) || strings.Contains(body, "VirtualSize") != c.virtual {
			t.Errorf("%s %s: want %s and VirtualSize: %v in %s", c.version, c.path, c.want, c.virtual, body)
		}
	}
}

func TestImageInspectByVersion(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	d.system.info.Driver = "overlay"
	for _, c := range []struct {
		version       Version
		there, absent []string
	}{
		{24, []string{"VirtualSize", "Container", "ContainerConfig", "Parent", "DockerVersion", "Config.Hostname", "Config.Tty"}, nil},
		{44, []string{"Container", "ContainerConfig", "Config.Hostname"}, []string{"VirtualSize"}},
		{49, []string{"Config.Hostname"}, []string{"Container", "ContainerConfig"}},
		{51, []string{"Parent", "DockerVersion", "Author", "Comment", "Config.Cmd", "Config.Entrypoint", "Config.Env", "Config.Labels", "Config.Volumes",
			"Config.WorkingDir", "Config.OnBuild", "Config.User", "RootFS.Layers", "GraphDriver.Name", "Metadata.LastTagTime"},
			[]string{"Config.Hostname", "Config.Healthcheck", "Descriptor", "Manifests", "Identity"}},
	} {
		doc := d.object(t, "/v"+c.version.String()+"/images/app/json?manifests=1")
		for _, key := range c.there {
			if !hasKey(doc, key) {
				t.Errorf("%v: no %s in %v", c.version, key, doc)
			}
		}
		for _, key := range c.absent {
			if hasKey(doc, key) {
				t.Errorf("%v: %s is there", c.version, key)
			}
		}
		if doc["Id"] != "sha256:new" || doc["Created"] != "1970-01-01T01:06:40Z" || doc["Size"] != 110.0 || doc["Os"] != "linux" {
			t.Errorf("%v: %v", c.version, doc)
		}
		config := doc["Config"].(map[string]any)
		if !reflect.DeepEqual(config["ExposedPorts"], map[string]any{"80/tcp": map[string]any{}}) || !reflect.DeepEqual(config["Cmd"], []any{"sh"}) {
			t.Errorf("%v: config %v", c.version, config)
		}
	}
	if got := d.message(t, 404, "GET", "/images/no/such/thing/json", nil); got != "No such image: no/such/thing" {
		t.Errorf("%q", got)
	}
	d.want(t, 200, "GET", "/images/reg:5000/x/app:1/json", nil)
	d.want(t, 200, "GET", "/images/reg:5000%2Fx%2Fapp:1/json", nil)
}

// A name that means an image for each of two platforms says so to who asks.
func TestImageInspectManifests(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	arm := brig.ImageInfo{Image: brig.Image{ID: "sha256:arm", Size: 7, Manifest: "sha256:armmanifest", Platform: brig.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}, Tags: []string{"app:latest"}}
	d.images.images = append(d.images.images, arm)
	list, _ := d.object(t, "/v1.48/images/app/json?manifests=1")["Manifests"].([]any)
	if len(list) != 2 {
		t.Fatalf("%v", list)
	}
	for n, want := range []string{`sha256:new linux/amd64 110`, `sha256:arm linux/arm64 7`} {
		m := list[n].(map[string]any)
		data := m["ImageData"].(map[string]any)
		p, size := data["Platform"].(map[string]any), data["Size"].(map[string]any)
		if got := fmt.Sprintf("%v %v/%v %v", m["ID"], p["os"], p["architecture"], size["Unpacked"]); got != want || m["Available"] != true || m["Kind"] != "image" {
			t.Errorf("%s, want %s: %v", got, want, m)
		}
	}
	for _, path := range []string{"/v1.48/images/app/json", "/v1.47/images/app/json?manifests=1", "/v1.48/images/base/json?manifests=1"} {
		if hasKey(d.object(t, path), "Manifests") {
			t.Errorf("%s: there are Manifests", path)
		}
	}
	both := "/v1.49/images/app/json?manifests=1&platform=" + url.QueryEscape(`{"os":"linux","architecture":"arm64"}`)
	if got := d.message(t, 400, "GET", both, nil); got != "conflicting options: manifests and platform options cannot both be set" {
		t.Errorf("%q", got)
	}
}

// hasKey looks a dotted path up in a JSON object.
func hasKey(doc map[string]any, path string) bool {
	head, rest, more := strings.Cut(path, ".")
	v, ok := doc[head]
	if !more || !ok {
		return ok
	}
	sub, _ := v.(map[string]any)
	return hasKey(sub, rest)
}

func TestImageNames(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	d.want(t, 201, "POST", "/images/app/tag?repo=host:5000/y&tag=2", nil)
	d.want(t, 201, "POST", "/images/host:5000/y:2/tag?repo=z", nil)
	if i, err := d.images.ImageGet(t.Context(), "z:latest"); err != nil || i.ID != "sha256:new" {
		t.Errorf("tag: %v", err)
	}
	for path, status := range map[string]int{
		"/images/nosuch/tag?repo=x": 404, "/images/app/tag?repo=UP": 400, "/images/app/tag": 400,
		"/images/app/tag?repo=x&tag=sha256:" + strings.Repeat("1", 64): 400,
	} {
		d.message(t, status, "POST", path, nil)
	}
	if got := d.want(t, 200, "DELETE", "/images/host:5000/y:2", nil); got != `[{"Untagged":"host:5000/y:2"}]`+"\n" {
		t.Errorf("untag: %s", got)
	}
	if got := d.want(t, 200, "DELETE", "/images/base", nil); got != `[{"Untagged":"base:latest"},{"Deleted":"sha256:old"}]`+"\n" {
		t.Errorf("delete: %s", got)
	}
	d.message(t, 409, "DELETE", "/images/sha256:used", nil)
	d.want(t, 200, "DELETE", "/images/sha256:used?force=1", nil)
	d.message(t, 404, "DELETE", "/images/sha256:used?force=1", nil)
	want := `[{"Comment":"","Created":7,"CreatedBy":"CMD","Id":"sha256:none","Size":0,"Tags":null},` +
		`{"Comment":"","Created":0,"CreatedBy":"ADD","Id":"<missing>","Size":5,"Tags":null}]` + "\n"
	if got := d.want(t, 200, "GET", "/images/sha256:none/history", nil); got != want {
		t.Errorf("history: %s", got)
	}
}

func TestImagePrune(t *testing.T) {
	for _, c := range []struct {
		filters, left string
		reclaimed     float64
	}{
		{``, "new used old", 20},
		{`{"dangling":["true"]}`, "new used old", 20},
		{`{"dangling":["false"]}`, "used", 130},
		{`{"dangling":["false"],"until":["1500"]}`, "new used none", 0},
		{`{"dangling":["false"],"label":["a"]}`, "used none old", 10},
		{`{"dangling":["false"],"label!":["a"]}`, "new used", 20},
	} {
		d := newDaemon(t)
		d.images.images = shelfOfFour()
		var report struct {
			ImagesDeleted  []struct{ Deleted string }
			SpaceReclaimed float64
		}
		body := d.want(t, 200, "POST", "/images/prune?filters="+url.QueryEscape(c.filters), nil)
		if err := json.Unmarshal([]byte(body), &report); err != nil {
			t.Fatal(err)
		}
		var left []string
		for _, i := range d.images.images {
			left = append(left, i.ID.Hex())
		}
		if strings.Join(left, " ") != c.left || report.SpaceReclaimed != c.reclaimed {
			t.Errorf("%s: left %v, want %s; report %s", c.filters, left, c.left, body)
		}
	}
}

func TestPullRequests(t *testing.T) {
	dig := "sha256:" + strings.Repeat("1", 64)
	for query, want := range map[string]brig.PullRequest{
		"fromImage=busybox&tag=latest":                      {Name: "busybox", Tag: "latest"},
		"fromImage=docker.io%2Flibrary%2Fbusybox&tag=1":     {Name: "busybox", Tag: "1"},
		"fromImage=host:5000/a/b:2":                         {Name: "host:5000/a/b", Tag: "2"},
		"fromImage=busybox":                                 {Name: "busybox", All: true},
		"fromImage=busybox&tag=" + dig:                      {Name: "busybox", Tag: dig},
		"fromImage=busybox&tag=1&platform=linux%2Farm%2Fv7": {Name: "busybox", Tag: "1", Platform: "linux/arm/v7"},
	} {
		d := newDaemon(t)
		d.want(t, 200, "POST", "/v1.41/images/create?"+query, nil)
		if len(d.images.pulled) != 1 || d.images.pulled[0] != want {
			t.Errorf("%s: %+v, want %+v", query, d.images.pulled, want)
		}
	}
	d := newDaemon(t)
	for query, status := range map[string]int{"fromImage=UP&tag=1": 400, "fromImage=a&tag=1&platform=a/b/c/d": 400, "fromSrc=-&changes=RUN+x": 400, "fromSrc=-&repo=a@" + dig: 400} {
		d.message(t, status, "POST", "/images/create?"+query, nil)
	}
	req, _ := http.NewRequest("POST", "http://brig/images/create?fromImage=a&tag=1", strings.NewReader("null"))
	req.Header.Set("X-Registry-Auth", "eyJ1c2VybmFtZSI6InUiLCJwYXNzd29yZCI6InA_PiJ9")
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := d.images.pulled[0].Auth; got != (brig.Auth{Username: "u", Password: "p?>"}) {
		t.Errorf("auth: %+v", got)
	}
}

func TestPullProgress(t *testing.T) {
	d := newDaemon(t)
	d.images.pull = func(_ context.Context, _ brig.PullRequest, report func(brig.Progress)) error {
		report(brig.Progress{ID: "latest", Status: "Pulling from library/busybox"})
		report(brig.Progress{ID: "0123456789ab", Status: "Pulling fs layer"})
		report(brig.Progress{ID: "0123456789ab", Status: "Downloading", Current: 500, Total: 2000})
		return errs.New(errs.NotFound, "the layer is <gone>")
	}
	resp := d.do(t, "POST", "/images/create?fromImage=busybox&tag=latest", nil)
	got, _ := io.ReadAll(resp.Body)
	bar := strings.Repeat("=", 12) + ">" + strings.Repeat(" ", 38)
	want := strings.Join([]string{
		`{"status":"Pulling from library/busybox","id":"latest"}`,
		`{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}`,
		`{"status":"Downloading","progressDetail":{"current":500,"total":2000},"progress":"[` + bar + `]     500B/2kB","id":"0123456789ab"}`,
		`{"errorDetail":{"message":"the layer is \u003cgone\u003e"},"error":"the layer is \u003cgone\u003e"}`, "",
	}, "\r\n")

	var compact bytes.Buffer
	for line := range strings.Lines(string(got)) { // JSON escapes > in the bar too
		compact.WriteString(strings.ReplaceAll(line, `=\u003e`, "=>"))
	}
	if compact.String() != want || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v\n%s\nwant\n%s", resp.StatusCode, resp.Header, compact.String(), want)
	}

	d.images.pull = func(context.Context, brig.PullRequest, func(brig.Progress)) error {
		return errs.New(errs.NotFound, "pull access denied for x")
	}
	if got := d.message(t, 404, "POST", "/images/create?fromImage=x&tag=1", nil); got != "pull access denied for x" {
		t.Errorf("%q", got)
	}
	d.images.pull = func(context.Context, brig.PullRequest, func(brig.Progress)) error {
		return errs.New(errs.Unauthorized, "unauthorized: authentication required")
	}
	d.message(t, 500, "POST", "/images/create?fromImage=x&tag=1", nil) // not 401: the docker command would ask for a password
}

func TestBarText(t *testing.T) {
	for _, c := range []struct {
		current, total int64
		want           string
	}{
		{0, 0, ""}, {1500, 0, "   1.5kB"}, {3000, 2000, "     3kB"},
		{2000, 2000, "[" + strings.Repeat("=", 50) + ">]      2kB/2kB"},
		{0, 10, "[>" + strings.Repeat(" ", 50) + "]       0B/10B"},
	} {
		if got := barText(c.current, c.total); got != c.want {
			t.Errorf("%d/%d: %q, want %q", c.current, c.total, got, c.want)
		}
	}
}

func TestLoadAndSave(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	upload := bytes.Repeat([]byte("layer"), 1<<20)
	got := d.want(t, 200, "POST", "/images/load?quiet=1", bytes.NewReader(upload))
	if got != `{"stream":"Loaded image: busybox:latest\n"}`+"\r\n" || !bytes.Equal(d.images.loaded, upload) {
		t.Errorf("quiet: %q, %d bytes", got, len(d.images.loaded))
	}
	if got := d.want(t, 200, "POST", "/images/load", bytes.NewReader(upload)); !strings.Contains(got, "Loading layer") {
		t.Errorf("with bars: %q", got)
	}
	d.images.load = func(tar io.Reader, _ func(brig.Progress)) error {
		tar.Read(make([]byte, 10))
		return errs.New(errs.Invalid, "no tar")
	}
	if got := d.message(t, 400, "POST", "/images/load", bytes.NewReader(upload)); got != "no tar" {
		t.Errorf("a refused upload: %q", got)
	}
	if got := d.want(t, 200, "GET", "/images/get?names=app&names=base", nil); got != "tar of app base" {
		t.Errorf("save two: %q", got)
	}
	resp := d.do(t, "GET", "/images/reg:5000/x/app:1/get", nil)
	if b, _ := io.ReadAll(resp.Body); string(b) != "tar of reg:5000/x/app:1" || resp.Header.Get("Content-Type") != "application/x-tar" {
		t.Errorf("save one: %q, %v", b, resp.Header)
	}
	d.message(t, 404, "GET", "/images/get?names=app&names=nosuch", nil)
	d.message(t, 400, "GET", "/images/get", nil)
}

// The report of a load arrives while the upload still goes on.
func TestLoadReportsDuringUpload(t *testing.T) {
	d := newDaemon(t)
	goOn := make(chan struct{})
	d.images.load = func(tar io.Reader, report func(brig.Progress)) error {
		tar.Read(make([]byte, 1))
		report(brig.Progress{Stream: "first\n"})
		<-goOn
		_, err := io.Copy(io.Discard, tar)
		return err
	}
	pr, pw := io.Pipe()
	go pw.Write([]byte("x"))
	resp := d.do(t, "POST", "/images/load", pr)
	line := make([]byte, 20)
	n, err := resp.Body.Read(line)
	if err != nil || !strings.HasPrefix(string(line[:n]), `{"stream":"first\n"}`) {
		t.Errorf("%q, %v", line[:n], err)
	}
	close(goOn)
	pw.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
}

func TestACIList(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	var got []ACIImage
	if err := json.Unmarshal([]byte(d.want(t, 200, "GET", "/brig/v1/images", nil)), &got); err != nil || len(got) != 4 {
		t.Fatalf("%v, %v", got, err)
	}
	if g := got[0]; g.ID != "sha256:new" || g.ACI.Name != "example.com/app" || g.ACI.ID != "sha512-1" || !slices.Contains(g.Tags, "app:1") {
		t.Errorf("%+v", g)
	}
}

// The host goes with the query, and so does the platform, as in a create.
func TestImageCheck(t *testing.T) {
	d := newDaemon(t)
	d.images.images = shelfOfFour()
	var got elfcheck.Report
	if err := json.Unmarshal([]byte(d.want(t, 200, "GET", "/brig/v1/images/reg:5000/x/app:1/check?host=freebsd/13.2&platform=amd64", nil)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Image != "reg:5000/x/app:1" || got.ID != "sha256:new" || got.Host != "freebsd/13.2/amd64" || got.Verdict != elfcheck.Degraded {
		t.Errorf("%+v", got)
	}
	for path, want := range map[string]string{
		"app:1/check?host=beos":                         "400 host \"beos\": its system is neither freebsd nor linux",
		"app:1/check?host=linux&platform=nonsense":      "400 \"nonsense\": unknown operating system or architecture",
		"app:1/check?host=linux&platform=linux/riscv64": "404 image with reference app:1 was found but its platform (linux/amd64) does not match",
		"x/check?host=linux":                            "404 No such image: x",
	} {
		status := 400
		if strings.HasPrefix(want, "404") {
			status = 404
		}
		if msg := d.message(t, status, "GET", "/brig/v1/images/"+path, nil); !strings.HasPrefix(msg, want[4:]) {
			t.Errorf("%s: %q, want %q", path, msg, want)
		}
	}
}
