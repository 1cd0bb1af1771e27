package metadata

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/brigd/brig/internal/brig"
)

const (
	uuidA = "a0000000-0000-4000-8000-00000000000a"
	uuidB = "b0000000-0000-4000-8000-00000000000b"
	uuidC = "c0000000-0000-4000-8000-00000000000c" // shares B's network stack
)

var (
	sourceA, sourceB = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	sourceA6         = netip.MustParseAddr("fd00::2")
	gateway, other   = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.9.0.1")
	gateway6         = netip.MustParseAddr("fd00::1")
)

// rig is a service with three pods.
type rig struct {
	*service
	t   testing.TB
	dir string
	log strings.Builder
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	root, err := os.OpenRoot(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	r.service = newService(newPods(root, slog.New(slog.DiscardHandler)), slog.New(slog.NewTextHandler(&r.log, nil)))
	r.keys.Store(MakeKeys())
	issuer := "brig:test"
	r.issuer.Store(&issuer)
	r.put(brig.PodIdentity{
		UUID: uuidA, Manifest: json.RawMessage(`{"acKind":"PodManifest"}`), Annotations: json.RawMessage(`[{"name":"a","value":"b"}]`),
		Apps: []brig.AppIdentity{
			{Name: "main", ImageID: "sha512-1", Image: json.RawMessage(`{"acKind":"ImageManifest"}`), Annotations: json.RawMessage(`[{"name":"c","value":"d"}]`)},
			{Name: "gone"},
		},
		Places: []brig.PodPlace{{Source: sourceA, Gateway: gateway}, {Source: sourceA6, Gateway: gateway6}},
	})
	for _, uuid := range []string{uuidB, uuidC} {
		r.put(brig.PodIdentity{UUID: uuid, Apps: []brig.AppIdentity{{Name: "main"}}, Places: []brig.PodPlace{{Source: sourceB, Gateway: gateway}}})
	}
	return r
}

// put publishes a pod.
func (r *rig) put(id brig.PodIdentity) {
	r.t.Helper()
	b, err := json.Marshal(id)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, id.UUID+suffix), b, 0o600)
	}
	if err == nil {
		err = r.pods.look([]string{id.UUID})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// call is one request. What is empty is as pod A would have it.
type call struct {
	method, path string
	token        string // whose
	raw          string // instead of token and path
	source, at   netip.Addr
	form         url.Values
	body         io.Reader
	contentType  string
}

func (r *rig) do(c call) *httptest.ResponseRecorder {
	r.t.Helper()
	if c.method == "" {
		c.method = "GET"
	}
	if c.token == "" {
		c.token = uuidA
	}
	if c.raw == "" {
		c.raw = tokenMark + r.keys.Load().token(c.token) + c.path
	}
	if !c.source.IsValid() {
		c.source = sourceA
	}
	if !c.at.IsValid() {
		c.at = gateway
	}
	if c.form != nil {
		c.body, c.contentType = strings.NewReader(c.form.Encode()), "application/x-www-form-urlencoded"
	}
	req := httptest.NewRequest(c.method, "http://x"+c.raw, c.body)
	req.RemoteAddr = netip.AddrPortFrom(c.source, 4711).String()
	if c.contentType != "" {
		req.Header.Set("Content-Type", c.contentType)
	}
	req = req.WithContext(withLocal(req.Context(), &net.TCPAddr{IP: c.at.AsSlice(), Port: Port}))
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

func TestDocuments(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		call
		status            int
		contentType, body string
	}{
		{call{path: "/acMetadata/v1/pod/uuid"}, 200, textType, uuidA},
		{call{path: "/acMetadata/v1/pod/uuid", source: sourceA6, at: gateway6}, 200, textType, uuidA},
		{call{path: "/acMetadata/v1/pod/uuid", source: netip.MustParseAddr("::ffff:10.0.0.2")}, 200, textType, uuidA},
		{call{path: "/acMetadata/v1/pod/manifest"}, 200, jsonType, `{"acKind":"PodManifest"}`},
		{call{path: "/acMetadata/v1/pod/annotations"}, 200, jsonType, `[{"name":"a","value":"b"}]`},
		{call{path: "/acMetadata/v1/apps/main/annotations"}, 200, jsonType, `[{"name":"c","value":"d"}]`},
		{call{path: "/acMetadata/v1/apps/main/image/manifest"}, 200, jsonType, `{"acKind":"ImageManifest"}`},
		{call{path: "/acMetadata/v1/apps/main/image/id"}, 200, textType, "sha512-1"},
		{call{path: "/acMetadata/v1/apps/gone/annotations"}, 200, jsonType, "[]"},
		{call{path: "/acMetadata/v1/apps/gone/image/manifest"}, 404, textType, "the image is gone\n"},
		{call{path: "/acMetadata/v1/apps/gone/image/id"}, 503, textType, "the image ID is still being computed\n"},
		{call{path: "/acMetadata/v1/apps/none/image/id"}, 404, textType, "no such app\n"},
		{call{path: "/acMetadata/v1/pod/uuid", token: uuidC, source: sourceB}, 200, textType, uuidC},
		{call{path: "/acMetadata/v1/pod/uuid", token: uuidB, source: sourceB}, 200, textType, uuidB},
		{call{path: "/acMetadata/v1/pod/manifest", token: uuidB, source: sourceB}, 503, textType, "the image ID is still being computed\n"},
		{call{path: "/acMetadata/v1/pod/annotations", token: uuidB, source: sourceB}, 200, jsonType, "[]"},
		{call{method: "HEAD", path: "/acMetadata/v1/pod/manifest"}, 200, jsonType, `{"acKind":"PodManifest"}`}, // net/http leaves the body out
	} {
		w := r.do(c.call)
		if w.Code != c.status || w.Header().Get("Content-Type") != c.contentType || w.Body.String() != c.body {
			t.Errorf("%s %s: %d %s %q", c.method, c.path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if (w.Code == 503) != (w.Header().Get("Retry-After") == "1") {
			t.Errorf("%s: Retry-After %q", c.path, w.Header().Get("Retry-After"))
		}
	}
}

// Everybody who isn't a pod at its place with its token gets the same answer, whatever was wrong and whatever was asked for.
func TestStrangers(t *testing.T) {
	r := newRig(t)
	own := r.keys.Load().token(uuidA)
	for name, c := range map[string]call{
		"no token":                   {raw: "/acMetadata/v1/pod/uuid"},
		"the UUID as token":          {raw: tokenMark + uuidA + "/acMetadata/v1/pod/uuid"},
		"empty token":                {raw: tokenMark + "/acMetadata/v1/pod/uuid"},
		"cut token":                  {raw: tokenMark + own[:len(own)-1] + "/acMetadata/v1/pod/uuid"},
		"longer token":               {raw: tokenMark + own + "A/acMetadata/v1/pod/uuid"},
		"token of other keys":        {raw: tokenMark + MakeKeys().token(uuidA) + "/acMetadata/v1/pod/uuid"},
		"another pod's token":        {token: uuidB, path: "/acMetadata/v1/pod/uuid"},
		"another pod's address":      {source: sourceB, path: "/acMetadata/v1/pod/uuid"},
		"an address of nobody":       {source: netip.MustParseAddr("10.0.0.9"), path: "/acMetadata/v1/pod/uuid"},
		"the host itself":            {source: gateway, path: "/acMetadata/v1/pod/uuid"},
		"another network's gateway":  {at: other, path: "/acMetadata/v1/pod/uuid"},
		"the other family's gateway": {at: gateway6, path: "/acMetadata/v1/pod/uuid"},
		"wrong token, unknown path":  {raw: tokenMark + "x/nowhere"},
		"wrong token, wrong method":  {raw: tokenMark + "x/acMetadata/v1/pod/uuid", method: "DELETE"},
		"wrong token, large body":    {raw: tokenMark + "x/acMetadata/v1/pod/hmac/sign", method: "POST", body: strings.NewReader(strings.Repeat("x", maxBody+1))},
		"the root":                   {raw: "/"},
	} {
		w := r.do(c)
		if w.Code != 403 || w.Body.String() != "forbidden\n" || w.Header().Get("Connection") != "close" {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
	if log := r.log.String(); strings.Contains(log, own) || strings.Contains(log, tokenMark) || !strings.Contains(log, "status=403") {
		t.Errorf("the access log: %s", log)
	}
	// A pod that ends is a stranger from then on.
	os.Remove(filepath.Join(r.dir, uuidA+suffix))
	if w := r.do(call{path: "/acMetadata/v1/pod/manifest"}); w.Code != 403 {
		t.Errorf("the file is gone, and nobody has looked yet: %d", w.Code)
	}
	if err := r.pods.look([]string{uuidA}); err != nil {
		t.Fatal(err)
	}
	if w := r.do(call{path: "/acMetadata/v1/pod/uuid"}); w.Code != 403 {
		t.Errorf("a pod that has ended: %d", w.Code)
	}
}

func TestRefusals(t *testing.T) {
	r := newRig(t)
	const sign, verify = "/acMetadata/v1/pod/hmac/sign", "/acMetadata/v1/pod/hmac/verify"
	form := "application/x-www-form-urlencoded"
	for name, c := range map[string]struct {
		call
		status int
		allow  string
	}{
		"unknown path":             {call{path: "/acMetadata/v1/pod/secrets"}, 404, ""},
		"no path":                  {call{path: ""}, 404, ""},
		"slash at the end":         {call{path: "/acMetadata/v1/pod/uuid/"}, 404, ""},
		"dots":                     {call{path: "/acMetadata/v1/pod/../pod/uuid"}, 404, ""},
		"app of dots":              {call{path: "/acMetadata/v1/apps/../image/id"}, 404, ""},
		"unknown document":         {call{path: "/acMetadata/v1/apps/main/image/rootfs"}, 404, ""},
		"POST to a document":       {call{method: "POST", path: "/acMetadata/v1/pod/uuid"}, 405, "GET, HEAD"},
		"DELETE":                   {call{method: "DELETE", path: "/acMetadata/v1/pod/manifest"}, 405, "GET, HEAD"},
		"GET of sign":              {call{path: sign}, 405, "POST"},
		"PUT to verify":            {call{method: "PUT", path: verify}, 405, "POST"},
		"sign nothing":             {call{method: "POST", path: sign, form: url.Values{}}, 400, ""},
		"sign twice":               {call{method: "POST", path: sign, form: url.Values{"content": {"a", "b"}}}, 400, ""},
		"sign without type":        {call{method: "POST", path: sign, body: strings.NewReader("content=a")}, 415, ""},
		"sign text":                {call{method: "POST", path: sign, body: strings.NewReader("content=a"), contentType: "text/plain"}, 415, ""},
		"sign no form":             {call{method: "POST", path: sign, body: strings.NewReader("content=%zz"), contentType: form}, 400, ""},
		"too large":                {call{method: "POST", path: sign, form: url.Values{"content": {strings.Repeat("x", maxBody)}}}, 413, ""},
		"too large, length hidden": {call{method: "POST", path: sign, body: io.MultiReader(strings.NewReader("content=" + strings.Repeat("x", maxBody))), contentType: form}, 413, ""},
		"verify without signature": {call{method: "POST", path: verify, form: url.Values{"content": {"a"}, "uuid": {uuidA}}}, 400, ""},
		"verify no UUID":           {call{method: "POST", path: verify, form: url.Values{"content": {"a"}, "uuid": {"x"}, "signature": {"x"}}}, 400, ""},
		"verify no base64":         {call{method: "POST", path: verify, form: url.Values{"content": {"a"}, "uuid": {uuidA}, "signature": {"*"}}}, 403, ""},
		"verify nothing":           {call{method: "POST", path: verify, form: url.Values{"content": {"a"}, "uuid": {uuidA}, "signature": {""}}}, 403, ""},
		"token for nobody":         {call{path: "/brig/v1/identity"}, 400, ""},
		"token for an empty name":  {call{path: "/brig/v1/identity?aud="}, 400, ""},
		"token for too many":       {call{path: "/brig/v1/identity?aud=1&aud=2&aud=3&aud=4&aud=5&aud=6&aud=7&aud=8&aud=9"}, 400, ""},
		"token for a long name":    {call{path: "/brig/v1/identity?aud=" + strings.Repeat("x", maxAudLen+1)}, 400, ""},
		"token by POST":            {call{method: "POST", path: "/brig/v1/identity?aud=x"}, 405, "GET, HEAD"},
	} {
		w := r.do(c.call)
		if w.Code != c.status || w.Header().Get("Allow") != c.allow || w.Header().Get("Content-Type") != textType || w.Body.Len() > 100 {
			t.Errorf("%s: %d, Allow %q, %q", name, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
}

func (r *rig) sign(content string) string {
	r.t.Helper()
	w := r.do(call{method: "POST", path: "/acMetadata/v1/pod/hmac/sign", form: url.Values{"content": {content}}})
	if w.Code != 200 || w.Header().Get("Content-Type") != textType {
		r.t.Fatalf("sign: %d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// verifies asks as pod B whether pod uuid has signed content.
func (r *rig) verifies(uuid, content, signature string) bool {
	r.t.Helper()
	w := r.do(call{method: "POST", path: "/acMetadata/v1/pod/hmac/verify", token: uuidB, source: sourceB, form: url.Values{"content": {content}, "uuid": {uuid}, "signature": {signature}}})
	if w.Code != 200 && w.Code != 403 {
		r.t.Fatalf("verify: %d %s", w.Code, w.Body)
	}
	return w.Code == 200
}

// A signature is one pod's of one content, and lasts as long as its key.
func TestSignatures(t *testing.T) {
	r := newRig(t)
	for _, content := range []string{"Old MacDonald Had A Farm", "", "\x00\xff&=%+ \n", strings.Repeat("long", 16<<10)} {
		s := r.sign(content)
		raw, err := base64.StdEncoding.DecodeString(s)
		h := hmac.New(sha512.New, r.keys.Load().Sign[0].ofPod(uuidA))
		io.WriteString(h, content)
		if err != nil || !hmac.Equal(raw, h.Sum(nil)) {
			t.Errorf("%.20q is signed by %q, %v", content, s, err)
		}
		if !r.verifies(uuidA, content, s) || !r.verifies(strings.ToUpper(uuidA), content, s) {
			t.Errorf("the signature of %.20q doesn't verify", content)
		}
		if r.verifies(uuidB, content, s) || r.verifies(uuidA, content+"x", s) || r.verifies(uuidA, content, s[4:]) {
			t.Errorf("a signature of %.20q verifies for something else", content)
		}
	}
	old := r.sign("x")
	r.keys.Store(r.keys.Load().Rotated(time.Hour))
	if now := r.sign("x"); now == old || !r.verifies(uuidA, "x", now) || !r.verifies(uuidA, "x", old) {
		t.Error("after a rotation, new and old signatures don't both verify")
	}
	r.keys.Store(r.keys.Load().Rotated(0))
	if r.verifies(uuidA, "x", r.sign("x")) == false || !r.verifies(uuidA, "x", old) {
		t.Error("a rotation without a grace ends what an earlier one has granted")
	}
	for i := range r.keys.Load().Sign[1:] {
		r.keys.Load().Sign[1+i].Until = time.Now().Add(-time.Second)
	}
	if r.verifies(uuidA, "x", old) {
		t.Error("a signature verifies after its time")
	}
	if n := len(r.keys.Load().Rotated(time.Hour).Sign); n != 2 {
		t.Errorf("%d keys are kept after their time", n)
	}
	k := r.keys.Load()
	for range 3 * maxRetired {
		k = k.Rotated(time.Hour)
	}
	if len(k.Sign) > maxRetired+1 || k.check() != nil {
		t.Errorf("%d keys", len(k.Sign))
	}
}

// A JWT is checked by the published keys alone, as a relying party off the host does it.
func TestIdentityTokens(t *testing.T) {
	r := newRig(t)
	w := r.do(call{path: "/brig/v1/identity?aud=https://bank.example&aud=b"})
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/jwt" || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	r.keys.Store(r.keys.Load().Rotated(time.Hour)) // tokens that are on their way stay good
	keys := r.do(call{path: "/brig/v1/jwks"})
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(keys.Body.Bytes(), &set); err != nil || len(set.Keys) != 2 || !set.Keys[0].IsPublic() || !set.Keys[1].IsPublic() {
		t.Fatalf("keys: %v: %s", err, keys.Body)
	}
	token, err := jwt.ParseSigned(w.Body.String(), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := token.Claims(set, &c); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(jwt.Expected{Issuer: "brig:test", Subject: uuidA, AnyAudience: jwt.Audience{"b"}}); err != nil {
		t.Error(err)
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Time: time.Now().Add(tokenLife + time.Second)}, 0); err == nil {
		t.Error("it doesn't expire")
	}
	if len(c.Apps) != 2 || c.Apps[0] != (appClaim{"main", "sha512-1"}) || c.ID == "" {
		t.Errorf("claims %+v", c)
	}
	var others jose.JSONWebKeySet
	theirs, err := MakeKeys().JWKS()
	if err != nil || json.Unmarshal(theirs, &others) != nil {
		t.Fatal(err)
	}
	if err := token.Claims(others, &c); err == nil {
		t.Error("it verifies by another instance's keys")
	}
}

// A pod that asks too much is refused, and no other one with it.
func TestRate(t *testing.T) {
	r := newRig(t)
	r.pods.byUUID[uuidA].rate, r.pods.byUUID[uuidA].lines = newBucket(rate{0, 100}), newBucket(rate{0, 10})
	refused := 0
	for range 150 {
		w := r.do(call{path: "/acMetadata/v1/pod/uuid"})
		if w.Code == 429 && w.Header().Get("Retry-After") == "1" {
			refused++
		}
	}
	if refused != 50 {
		t.Errorf("%d requests of 150 are refused, not 50", refused)
	}
	if w := r.do(call{path: "/acMetadata/v1/pod/uuid", token: uuidB, source: sourceB}); w.Code != 200 {
		t.Errorf("another pod is refused: %d", w.Code)
	}
	if n := strings.Count(r.log.String(), "pod="+uuidA); n != 10 {
		t.Errorf("%d lines of the pod in the log, not 10", n)
	}
	r.pods.byUUID[uuidA].lines = newBucket(rate{0, 1})
	r.do(call{path: "/acMetadata/v1/pod/uuid"})
	if !strings.Contains(r.log.String(), "leftOut=140") {
		t.Errorf("the log doesn't say how much it has left out: %s", r.log.String())
	}
	r.put(brig.PodIdentity{UUID: uuidA, Places: []brig.PodPlace{{Source: sourceA, Gateway: gateway}}})
	r.pods.byUUID[uuidA].rate.left = 0
	r.pods.byUUID[uuidA].rate.last = time.Now().Add(time.Hour)
	r.put(brig.PodIdentity{UUID: uuidA, Places: []brig.PodPlace{{Source: sourceA, Gateway: gateway}}})
	if w := r.do(call{path: "/acMetadata/v1/pod/uuid"}); w.Code != 429 {
		t.Errorf("publishing a pod anew gives it what it has used up: %d", w.Code)
	}
}

// Large bodies wait for each other, by pod and in all.
func TestTurns(t *testing.T) {
	r := newRig(t)
	a, b := r.pods.byUUID[uuidA], r.pods.byUUID[uuidB]
	done, err := r.turn(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.turn(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.turn(t.Context(), a); err == nil {
		t.Error("one pod sends two large bodies at once")
	}
	done()
	second()
	if len(r.large)+len(a.large)+len(b.large) != 0 {
		t.Error("turns are not given back")
	}
}

// No pod takes all connections: there is always room for those that have few.
func TestRoom(t *testing.T) {
	d := &doors{of: map[netip.Addr]int{}}
	source := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)}) }
	for i := range 1000 {
		for n := 0; d.enter(source(0)); n++ {
			if n >= maxOfSource {
				t.Fatalf("%d connections of one address", n)
			}
		}
		d.enter(source(i % 7))
	}
	for i := range (maxConns - fewConns) / fewOfSource {
		for range fewOfSource {
			if !d.enter(source(100 + i)) {
				t.Fatalf("the %dth pod gets no room among %d connections", i, d.total)
			}
		}
	}
	if d.enter(source(999)) || d.total > maxConns {
		t.Errorf("%d connections, and one more", d.total)
	}
	d.leave(source(0))
	if !d.enter(source(999)) {
		t.Error("a connection that has ended leaves no room")
	}
	for s, n := range d.of {
		for range n {
			d.leave(s)
		}
	}
	if d.total != 0 || len(d.of) != 0 {
		t.Errorf("%d connections are left, %v", d.total, d.of)
	}
}

// Files that are no pod's, or another pod's, are nobody's.
func TestBadFiles(t *testing.T) {
	r := newRig(t)
	for name, text := range map[string]string{
		"d0000000-0000-4000-8000-00000000000d.json": `{"uuid":"` + uuidA + `","places":[{"source":"10.0.0.8","gateway":"10.0.0.1"}]}`,
		"e0000000-0000-4000-8000-00000000000e.json": `{`,
		".new-123":    "half",
		"README.json": "{}",
		"F0000000-0000-4000-8000-00000000000F.json": "{}",
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := r.pods.look(nil)
	if err == nil || !strings.Contains(err.Error(), "d0000000") || !strings.Contains(err.Error(), "e0000000") || strings.Contains(err.Error(), "README") {
		t.Errorf("look: %v", err)
	}
	if n := len(r.pods.uuids()); n != 3 {
		t.Errorf("%d pods", n)
	}
	if w := r.do(call{path: "/acMetadata/v1/pod/uuid"}); w.Code != 200 {
		t.Errorf("a good pod beside bad files: %d", w.Code)
	}
}

func BenchmarkSign(b *testing.B) {
	r := newRig(b)
	path := tokenMark + r.keys.Load().token(uuidA) + "/acMetadata/v1/pod/hmac/sign"
	r.pods.byUUID[uuidA].rate = newBucket(rate{1e9, 1e9})
	for b.Loop() {
		if w := r.do(call{method: "POST", raw: path, form: url.Values{"content": {"Old MacDonald Had A Farm"}}}); w.Code != http.StatusOK {
			b.Fatal(w.Code)
		}
	}
}
