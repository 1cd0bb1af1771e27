package dockerapi

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// A yard builds what its Dockerfile's text tells it to, and keeps a cache.
type yard struct {
	mu      sync.Mutex
	asked   []brig.BuildRequest
	body    []byte // what Receive has read
	remote  string
	removed int
	build   func(ctx context.Context, report func(brig.BuildLine)) error // instead of a build that goes well
	cache   []brig.BuildCacheEntry
	pruned  []brig.BuildPruneRequest
}

const builtID = brig.Digest("sha256:00000000000000000000000000000000000000000000000000000000000000aa")

func (y *yard) Build(ctx context.Context, r brig.BuildRequest, report func(brig.BuildLine)) (brig.Digest, error) {
	y.mu.Lock()
	y.asked = append(y.asked, r)
	y.mu.Unlock()
	if y.build != nil {
		return "", y.build(ctx, report)
	}
	report(brig.BuildLine{Out: "Step 1/1 : FROM x\n"})
	report(brig.BuildLine{Progress: &brig.Progress{ID: "0123456789ab", Status: "Downloading", Current: 1, Total: 2}})
	report(brig.BuildLine{Err: "oops\n"})
	report(brig.BuildLine{Image: builtID})
	report(brig.BuildLine{})
	return builtID, nil
}

func (y *yard) Receive(_ context.Context, r io.Reader) (string, func(), error) {
	b, err := io.ReadAll(r)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.body = b
	if err == nil && bytes.Equal(b, []byte("garbage")) {
		err = errs.New(errs.Invalid, "read archive: garbage")
	}
	return "/ctx", y.remove, err
}

func (y *yard) Fetch(_ context.Context, remote string, progress func(brig.Progress)) (string, string, func(), error) {
	y.remote = remote
	if strings.HasPrefix(remote, "zz") {
		return "", "", nil, errs.New(errs.Unavailable, "remoteURL (%s) could not be recognized as URL", remote)
	}
	progress(brig.Progress{ID: "Downloading context", Status: remote, Current: 5})
	return "/fetched", "Dockerfile", y.remove, nil
}

func (y *yard) remove() {
	y.mu.Lock()
	y.removed++
	y.mu.Unlock()
}

func (y *yard) BuildCache(context.Context) ([]brig.BuildCacheEntry, error) { return y.cache, nil }

func (y *yard) PruneBuilds(_ context.Context, r brig.BuildPruneRequest) (brig.BuildPruned, error) {
	y.pruned = append(y.pruned, r)
	var out brig.BuildPruned
	for _, e := range y.cache {
		if r.Match(&e) {
			out.IDs, out.Freed = append(out.IDs, e.ID), out.Freed+e.Size
		}
	}
	return out, nil
}

// last is the newest request.
func (y *yard) last(t *testing.T) brig.BuildRequest {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	if len(y.asked) == 0 {
		t.Fatal("nothing was built")
	}
	return y.asked[len(y.asked)-1]
}

func someTar(t *testing.T) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "Dockerfile", Size: 6}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "FROM x")
	w.Close()
	return &b
}

func text(s string) *string { return &s }

func TestBuildRequest(t *testing.T) {
	swappiness := brig.Limits{Memory: 64 << 20, MemorySwap: -1, CPUShares: 2, CPUPeriod: 1000, CPUQuota: 2000, CpusetCPUs: "0", CpusetMems: "0"}
	at := time.Unix(7, 0).UTC()
	for query, want := range map[string]brig.BuildRequest{
		"": {},
		"dockerfile=a/D&target=t&nocache=1&pull=1&forcerm=1&networkmode=none": {Dockerfile: "a/D", Target: "t", NoCache: true, Pull: true, ForceRemove: true, Network: "none"},
		"t=a&t=&t=h:5/b:c": {Tags: []string{"a", "h:5/b:c"}},
		"rm=0":             {Keep: true},
		"rm=":              {},
		"rm=1":             {},
		"rm=0&forcerm=1":   {ForceRemove: true},
		"version=1&session=x&outputs=null&securityopt=null&isolation=Default&ulimits=null&labels=null&buildargs=null&cachefrom=null": {},
		`buildargs={"a":null,"b":"c","SOURCE_DATE_EPOCH":"7"}`:                                                                       {Args: map[string]*string{"a": nil, "b": text("c"), "SOURCE_DATE_EPOCH": text("7")}, Epoch: &at},
		`labels={"k":"v","n":null}&cachefrom=["x","y"]`:                                                                              {Labels: map[string]string{"k": "v", "n": ""}, CacheFrom: []string{"x", "y"}},
		"memory=67108864&memswap=-1&cpushares=2&cpuperiod=1000&cpuquota=2000&cpusetcpus=0&cpusetmems=0":                              {Limits: swappiness},
		`shmsize=5&cgroupparent=/x&extrahosts=a:1.2.3.4&extrahosts=b=::1&ulimits=[{"Name":"nofile","Soft":1,"Hard":2}]`: {
			ShmSize: 5, CgroupParent: "/x", ExtraHosts: []string{"a:1.2.3.4", "b:::1"}, Ulimits: []brig.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}},
		},
		"platform=linux/arm64": {Platform: "linux/arm64"},
	} {
		d := newDaemon(t)
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		d.want(t, 200, "POST", "/build?"+q.Encode(), someTar(t))
		want.Context = "/ctx"
		if got := d.yard.last(t); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v\nwant\n%+v", query, got, want)
		}
		if d.yard.removed != 1 {
			t.Errorf("%s: the context was removed %d times", query, d.yard.removed)
		}
		d.stop()
	}
}

func TestBuildRefuses(t *testing.T) {
	d := newDaemon(t)
	for query, want := range map[string]string{
		"version=2": "501 " + classicWay, "version=3": `400 invalid version "3"`, `outputs=[{"Type":"local"}]`: "501 outputs (docker build --output) are BuildKit's: " + classicWay,
		"squash=1": "400 squash is only supported with experimental mode", "remote=client-session&session=x": "400 a context that comes over a session is BuildKit's: " + classicWay,
		`securityopt=["x"]`: "400 The daemon on this platform does not support setting security options on build", "isolation=hyperv": `400 Unsupported isolation: "hyperv"`,
		"t=UPPER": "400 invalid reference format: repository name (library/UPPER) must be lowercase", "t=a@sha256:" + strings.Repeat("0", 64): "400 build tag cannot contain a digest",
		"platform=a/b/c/d": `400 "a/b/c/d": cannot parse platform specifier: invalid argument`, "memory=x": `400 invalid value for memory: "x" is not a number`,
		"memory=4194304": "400 Minimum memory limit allowed is 6MB", "shmsize=-1": "400 SHM size can not be less than 0",
		"cpusetcpus=9999": "400 Requested CPUs are not available", "extrahosts=x": `400 bad format for add-host: "x"`, "ulimits=[null]": "400 invalid ulimit: null",
		"ulimits=x":   "400 error reading ulimit settings: invalid character 'x' looking for beginning of value",
		"buildargs=x": "400 error reading build args: invalid character 'x' looking for beginning of value", "labels=[]": "400 error reading labels: json: cannot unmarshal array",
		"cachefrom={}": "400 error reading cachefrom: json: cannot unmarshal object", `buildargs={"SOURCE_DATE_EPOCH":"x"}`: "400 invalid SOURCE_DATE_EPOCH: x",
		"remote=zz": "500 remoteURL (zz) could not be recognized as URL",
	} {
		status, why, _ := strings.Cut(want, " ")
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		resp := d.do(t, "POST", "/build?"+q.Encode(), io.MultiReader(someTar(t), strings.NewReader(strings.Repeat("x", 1<<20)))) // a client that has more to send gets to read it
		var got struct{ Message string }
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		}
		if !strings.HasPrefix(got.Message, why) || !strings.HasPrefix(resp.Status, status) {
			t.Errorf("%s: %s %q, want %s", query, resp.Status, got.Message, want)
		}
	}
	if got := d.message(t, 400, "POST", "/build", strings.NewReader("garbage")); got != "read archive: garbage" {
		t.Errorf("garbage: %q", got)
	}
	if len(d.yard.asked) > 0 {
		t.Errorf("built: %+v", d.yard.asked)
	}
}

func TestBuildReport(t *testing.T) {
	lines := func(l ...string) string { return strings.Join(l, "\r\n") + "\r\n" }
	d := newDaemon(t)
	want := lines(`{"stream":"Step 1/1 : FROM x\n"}`, `{"status":"Downloading","progressDetail":{"current":1,"total":2},"progress":"[=========================\u003e                         ]       1B/2B","id":"0123456789ab"}`,
		`{"stream":"\u001b[91moops\n\u001b[0m"}`, `{"aux":{"ID":"`+string(builtID)+`"}}`)
	if got := d.want(t, 200, "POST", "/build", someTar(t)); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := d.want(t, 200, "POST", "/build?q=1", someTar(t)); got != lines(`{"stream":"`+string(builtID)+`\n"}`) {
		t.Errorf("quiet: %q", got)
	}
	if got := d.want(t, 200, "POST", "/build?remote=http://x/y&dockerfile=z", nil); !strings.HasPrefix(got, `{"status":"http://x/y","progressDetail":{"current":5},"progress":"      5B","id":"Downloading context"}`+"\r\n") {
		t.Errorf("remote: %q", got)
	}
	if got := d.yard.last(t); got.Context != "/fetched" || got.Dockerfile != "Dockerfile" || d.yard.remote != "http://x/y" {
		t.Errorf("remote: %+v", got)
	}
	d.yard.build = func(_ context.Context, report func(brig.BuildLine)) error {
		report(brig.BuildLine{Out: "said\n"})
		return errs.Wrap(&brig.RunFailed{Command: "false", Code: 3}, "x")
	}
	const fails = `{"errorDetail":{"code":3,"message":"x: The command 'false' returned a non-zero code: 3"},"error":"x: The command 'false' returned a non-zero code: 3"}`
	for _, query := range []string{"", "?q=1"} {
		if got := d.want(t, 200, "POST", "/build"+query, someTar(t)); got != lines(`{"stream":"said\n"}`, fails) {
			t.Errorf("%s: a RUN that fails: %q", query, got)
		}
	}
	d.yard.build = func(context.Context, func(brig.BuildLine)) error {
		return errs.New(errs.Invalid, "dockerfile parse error line 2: unknown instruction: FOO")
	}
	for _, query := range []string{"", "?q=1"} {
		if got := d.message(t, 400, "POST", "/build"+query, someTar(t)); got != "dockerfile parse error line 2: unknown instruction: FOO" {
			t.Errorf("%s: a Dockerfile that is wrong: %q", query, got)
		}
	}
	if d.yard.removed != 7 {
		t.Errorf("%d contexts were removed", d.yard.removed)
	}
}

func TestQuietBuildKeepsTheEnd(t *testing.T) {
	d := newDaemon(t)
	d.yard.build = func(_ context.Context, report func(brig.BuildLine)) error {
		for range 3 * maxQuiet {
			report(brig.BuildLine{Out: "early\n"})
		}
		report(brig.BuildLine{Out: "late\n"})
		return errors.New("bad")
	}
	got := strings.Split(d.want(t, 200, "POST", "/build?q=1", someTar(t)), "\r\n")
	if n := len(got); n > maxQuiet+3 || n < maxQuiet/2 || got[n-3] != `{"stream":"late\n"}` || got[n-2] != `{"errorDetail":{"message":"bad"},"error":"bad"}` {
		t.Errorf("%d lines, the last: %q", n, got[max(0, n-4):])
	}
}

// A build ends when its client goes away.
func TestBuildClientGoesAway(t *testing.T) {
	for _, query := range []string{"", "?q=1", "?remote=http://x/y"} {
		d := newDaemon(t)
		begun, ended := make(chan struct{}), make(chan error, 1)
		d.yard.build = func(ctx context.Context, report func(brig.BuildLine)) error {
			report(brig.BuildLine{Out: "Step 1/1\n"})
			close(begun)
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "POST", "http://brig/build"+query, someTar(t))
		if err != nil {
			t.Fatal(err)
		}
		go func() { <-begun; cancel() }()
		if resp, err := d.client.Do(req); err == nil {
			resp.Body.Close()
		}
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", query, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s goes on without a client", query)
		}
		d.stop()
		if d.yard.removed != 1 {
			t.Errorf("%s: the context is still there", query)
		}
	}
}

func TestAuthsFromHeader(t *testing.T) {
	doc := `{"https://index.docker.io/v1/":{"username":"a","password":"b"},"localhost:5000":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("c:d")) + `"},"https://r.example/v2/":{"identitytoken":"t"}}`
	want := map[string]brig.Auth{"docker.io": {Username: "a", Password: "b"}, "localhost:5000": {Username: "c", Password: "d"}, "r.example": {IdentityToken: "t"}}
	for _, enc := range []*base64.Encoding{base64.URLEncoding, base64.StdEncoding, base64.RawURLEncoding} {
		if got := authsFromHeader(enc.EncodeToString([]byte(doc))); !reflect.DeepEqual(got, want) {
			t.Errorf("%v", got)
		}
	}
	for _, bad := range []string{"", "!", base64.URLEncoding.EncodeToString([]byte("[]"))} {
		if got := authsFromHeader(bad); got != nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

func cacheOfThree() []brig.BuildCacheEntry {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []brig.BuildCacheEntry{
		{ID: "aa11", Type: brig.BuildCacheStep, Description: "RUN x", Size: 100, Created: at, Used: at.Add(time.Hour), Count: 2},
		{ID: "bb22", Type: brig.BuildCacheStep, Description: "COPY y", Parents: []string{"aa11"}, Size: 20, Shared: true, Created: at},
		{ID: "cc33", Type: brig.BuildCacheDir, Description: "cache", InUse: true, Size: 3, Created: at},
	}
}

func TestBuildCacheUsage(t *testing.T) {
	d := newDaemon(t)
	d.yard.cache = cacheOfThree()
	var old, now struct {
		BuildCache  []map[string]any
		BuilderSize *int64
	}
	if err := json.Unmarshal([]byte(d.want(t, 200, "GET", "/v1.41/system/df", nil)), &old); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(d.want(t, 200, "GET", "/v1.51/system/df?type=build-cache", nil)), &now); err != nil {
		t.Fatal(err)
	}
	if old.BuilderSize == nil || *old.BuilderSize != 123 || now.BuilderSize != nil {
		t.Errorf("BuilderSize: %v, %v", old.BuilderSize, now.BuilderSize)
	}
	if len(old.BuildCache) != 3 || old.BuildCache[1]["Parent"] != "aa11" || old.BuildCache[1]["Parents"] != nil {
		t.Errorf("1.41: %v", old.BuildCache)
	}
	want := map[string]any{"ID": "bb22", "Type": "regular", "Description": "COPY y", "Parents": []any{"aa11"}, "InUse": false, "Shared": true, "Size": 20.0,
		"CreatedAt": "2026-01-02T03:04:05Z", "LastUsedAt": nil, "UsageCount": 0.0}
	if len(now.BuildCache) != 3 || !reflect.DeepEqual(now.BuildCache[1], want) {
		t.Errorf("1.51: %v", now.BuildCache)
	}
	if got := now.BuildCache[0]; got["LastUsedAt"] != "2026-01-02T04:04:05Z" || got["UsageCount"] != 2.0 {
		t.Errorf("1.51: %v", got)
	}
}

func TestBuildPrune(t *testing.T) {
	for query, want := range map[string]string{
		"": "aa11 bb22 cc33", `filters={"id":["bb"]}`: "bb22", `filters={"parent":["aa11"]}`: "bb22", `filters={"type":["exec.cachemount"]}`: "cc33",
		`filters={"description":["RUN x"]}`: "aa11", `filters={"shared":["true"]}`: "bb22", `filters={"private":["1"]}`: "aa11 cc33", `filters={"inuse":["false"]}`: "aa11 bb22",
		`filters={"label":["x"]}`: "", `filters={"label!":["x"]}`: "aa11 bb22 cc33", "filters=": "aa11 bb22 cc33",
	} {
		d := newDaemon(t)
		d.yard.cache = cacheOfThree()
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			CachesDeleted  []string
			SpaceReclaimed int
		}
		if err := json.Unmarshal([]byte(d.want(t, 200, "POST", "/build/prune?"+q.Encode(), nil)), &got); err != nil {
			t.Fatal(err)
		}
		if strings.Join(got.CachesDeleted, " ") != want {
			t.Errorf("%s: %v, want %s", query, got.CachesDeleted, want)
		}
		if e := d.system.published; len(e) != 1 || e[0].Type != "builder" || e[0].Action != "prune" {
			t.Errorf("%s: events %+v", query, e)
		}
		d.stop()
	}
	d := newDaemon(t)
	for query, want := range map[string]string{
		"filters={": "invalid filter: unexpected end of JSON input", `filters={"zz":["1"]}`: "invalid filter 'zz'", `filters={"until":["x"]}`: `failed to parse value as time or duration: "x"`,
		`filters={"shared":["x"]}`: "invalid filter 'shared=[x]'", "keep-storage=x": "keep-storage is in bytes and expects an integer, got x", "reserved-space=-1": "reserved-space is in bytes and expects an integer, got -1",
	} {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.message(t, 400, "POST", "/build/prune?"+q.Encode(), nil); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestBuildKeep(t *testing.T) {
	d := newDaemon(t)
	d.yard.cache, d.system.free = cacheOfThree(), 1000 // 123 bytes
	for query, want := range map[string]int64{
		"": 0, "keep-storage=5": 5, "reserved-space=6&keep-storage=5": 6, "max-used-space=50": 50, "max-used-space=50&reserved-space=60": 60,
		"min-free-space=1050": 73, "min-free-space=1050&reserved-space=80": 80, "min-free-space=1050&max-used-space=70": 70, "min-free-space=5000": 0, "min-free-space=900": 123,
		"min-free-space=900&max-used-space=9": 9,
	} {
		d.want(t, 200, "POST", "/build/prune?all=1&"+query, nil)
		if got := d.yard.pruned[len(d.yard.pruned)-1]; got.Keep != want || !got.All {
			t.Errorf("%s: %d, want %d", query, got.Keep, want)
		}
	}
	before := time.Now().Add(-time.Hour)
	d.want(t, 200, "POST", "/build/prune?filters="+url.QueryEscape(`{"until":["1h"]}`), nil)
	if got := d.yard.pruned[len(d.yard.pruned)-1]; got.All || got.Before.Before(before) || got.Before.After(time.Now().Add(-time.Hour)) {
		t.Errorf("until: %+v", got)
	}
}
