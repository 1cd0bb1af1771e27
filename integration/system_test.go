package integration

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

func TestVersionAndInfo(t *testing.T) {
	match(t, "version", ok(t, "version"), `(?s)Client:.*Server:.*API version: +1\.\d+ \(minimum version 1\.\d+\)`)
	match(t, "server", ok(t, "version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"), `^`+runtime.GOOS+`/`)
	var info struct {
		NCPU                        int
		MemTotal                    int64
		OSType, Driver, ID, Name    string
		DefaultRuntime              string
		Containers, Images          int
		KernelVersion, CgroupDriver string
	}
	if err := json.Unmarshal([]byte(ok(t, "info", "--format", "{{json .}}")), &info); err != nil {
		t.Fatal(err)
	}
	if info.NCPU < 1 || info.MemTotal < 1<<20 || info.OSType != runtime.GOOS || info.Driver == "" || info.ID == "" || info.Images < 5 || info.KernelVersion == "" {
		t.Errorf("info: %+v", info)
	}
	match(t, "info", ok(t, "info"), `(?s)Server:.*Storage Driver: \S+.*Kernel Version: \S+`)
}

func TestAPIVersions(t *testing.T) {
	code, header, body, err := bed.server.Get(bed.ctx, "/_ping")
	if err != nil || code != 200 || body != "OK" || header.Get("Api-Version") == "" || header.Get("Ostype") != runtime.GOOS || header.Get("Docker-Experimental") == "" {
		t.Errorf("_ping: %d %q %v %v", code, body, header, err)
	}
	highest := header.Get("Api-Version")
	for _, v := range []string{"", "/v1.24", "/v1.30", "/v1.40", "/v" + highest} {
		code, _, body, err := bed.server.Get(bed.ctx, v+"/containers/json")
		if err != nil || code != 200 || !strings.HasPrefix(body, "[") {
			t.Errorf("%s/containers/json: %d %q %v", v, code, body, err)
		}
	}
	for _, c := range []struct {
		path  string
		code  int
		words string
	}{
		{"/v1.99/containers/json", 400, "client version 1.99 is too new"},
		{"/v" + highest + "/nosuch", 404, "page not found"},
		{"/containers/nosuch/json", 404, "(?i)No such container: nosuch"},
		{"/images/nosuch/json", 404, "(?i)No such image: nosuch"},
		{"/containers/json?filters=x", 400, ""},
		{"/containers/json?limit=x", 400, ""},
	} {
		code, _, body, err := bed.server.Get(bed.ctx, c.path)
		var e struct{ Message string }
		if json.Unmarshal([]byte(body), &e) != nil || e.Message == "" || err != nil {
			t.Errorf("%s: not {\"message\"}: %q %v", c.path, body, err)
		}
		match(t, c.path, e.Message, c.words)
		if code != c.code && (bed.server.Owned || code != 500) { // dockerd 20.10 says 500 for input that it cannot parse
			t.Errorf("%s: status %d, want %d: %s", c.path, code, c.code, e.Message)
		}
	}
	old := bed.cli
	old.Env = []string{"DOCKER_API_VERSION=1.24"}
	for _, args := range [][]string{{"version"}, {"ps", "-a"}, {"images"}, {"run", "--rm", image("busybox"), "true"}} {
		if r := dockerOn(t, old, nil, args...); r.Code != 0 {
			t.Errorf("with API 1.24: %s", r)
		}
	}
	match(t, "negotiated", ok(t, "version", "--format", "{{.Client.APIVersion}}"), fmt.Sprintf(`^(%s|1\.\d+)$`, highest))
	gone := testbed.CLI{Host: "unix:///no/such.sock", Config: bed.cli.Config}
	equal(t, "no server", dockerOn(t, gone, nil, "run", "x").Code, 125)
}
