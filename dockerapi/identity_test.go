package dockerapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// notary takes what is signed in clear text.
type notary struct{ kept time.Duration }

func (*notary) VerifySignature(_ context.Context, uuid, signature string, content io.Reader) (bool, error) {
	if uuid == "broken" {
		return false, errors.New("no keys")
	}
	b, err := io.ReadAll(content)
	return signature == uuid+" "+string(b), err
}

func (*notary) JWKS(context.Context) ([]byte, error) { return []byte(`{"keys":[]}`), nil }

func (n *notary) Rotate(_ context.Context, keep time.Duration) error { n.kept = keep; return nil }

func TestIdentityRoutes(t *testing.T) {
	d := newDaemon(t)
	verify := func(uuid, signature string) string {
		return "/brig/v1/identity/verify?" + url.Values{"uuid": {uuid}, "signature": {signature}}.Encode()
	}
	for _, c := range []struct {
		path, body string
		status     int
		text       string
	}{
		{verify("u", "u some +/= bytes"), "some +/= bytes", http.StatusNoContent, ""},
		{verify("u", "u other"), "bytes", http.StatusForbidden, "the signature is not pod u's of this content"},
		{verify("broken", "x"), "bytes", http.StatusInternalServerError, "no keys"},
		{verify("", "x"), "bytes", http.StatusBadRequest, "the query needs uuid and signature"},
		{"/brig/v1/metadata/rotate?keep=60", "", http.StatusNoContent, ""},
		{"/brig/v1/metadata/rotate", "", http.StatusBadRequest, "keep must say for how many seconds old signatures verify, 0 to 315360000"},
		{"/brig/v1/metadata/rotate?keep=-1", "", http.StatusBadRequest, "keep must say for how many seconds old signatures verify, 0 to 315360000"},
		{"/brig/v1/metadata/rotate?keep=soon", "", http.StatusBadRequest, "is not a number"},
	} {
		resp, err := d.client.Post("http://brig"+c.path, "application/octet-stream", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(b), c.text) {
			t.Errorf("%s: %d %s, not %d %s", c.path, resp.StatusCode, b, c.status, c.text)
		}
	}
	if n := d.server.Identities.(*notary); n.kept != time.Minute {
		t.Errorf("kept for %v", n.kept)
	}
	resp, err := d.client.Get("http://brig/brig/v1/identity/jwks")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != `{"keys":[]}` || resp.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("keys: %s as %s", b, resp.Header.Get("Content-Type"))
	}
}
