package dockerapi

import (
	"context"
	"io"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Import takes anything.
func (s *imageShelf) Import(_ context.Context, r brig.ImportRequest, tar io.Reader, progress func(brig.Progress)) error {
	s.imported = append(s.imported, r)
	if tar != nil {
		if _, err := io.Copy(io.Discard, tar); err != nil {
			return err
		}
	}
	progress(brig.Progress{Status: r.Repository + ":" + r.Tag})
	return nil
}

// Commit knows one container.
func (s *imageShelf) Commit(_ context.Context, r brig.CommitRequest) (brig.Digest, error) {
	if r.Container != "web" {
		return "", errs.New(errs.NotFound, "No such container: %s", r.Container)
	}
	s.committed = append(s.committed, r)
	return "sha256:made", nil
}

func TestImportRequests(t *testing.T) {
	for query, want := range map[string]brig.ImportRequest{
		"fromSrc=-": {},
		"fromSrc=-&repo=a/b&tag=1&message=m&platform=linux/arm64": {Repository: "a/b", Tag: "1", Message: "m", Platform: "linux/arm64"},
		"fromSrc=-&repo=h:5000/a:2&changes=CMD+x&changes=USER+u":  {Repository: "h:5000/a", Tag: "2", Changes: []string{"CMD x", "USER u"}},
		"fromSrc=" + url.QueryEscape("https://h/x.tar"):           {Source: "https://h/x.tar"},
		"fromSrc=h/x.tar": {Source: "http://h/x.tar"},
	} {
		d := newDaemon(t)
		d.want(t, 200, "POST", "/images/create?"+query, nil)
		if len(d.images.imported) != 1 || !reflect.DeepEqual(d.images.imported[0], want) {
			t.Errorf("%s: %+v, want %+v", query, d.images.imported, want)
		}
	}
	d := newDaemon(t)
	if got := d.message(t, 400, "POST", "/images/create?fromSrc=-&changes=FROM+x", nil); got != "FROM is not a valid change command" {
		t.Errorf("%q", got)
	}
}

func TestCommitRequests(t *testing.T) {
	config := map[string]any{
		"Cmd": "one", "Entrypoint": []string{"e"}, "Env": []string{"A=b"}, "ExposedPorts": map[string]any{"81/udp": struct{}{}, "80/tcp": struct{}{}},
		"Volumes": map[string]any{"/v": struct{}{}, "/a": struct{}{}}, "User": "u", "Healthcheck": map[string]any{"Test": []string{"NONE"}},
	}
	asked := &brig.ImageConfig{
		Cmd: []string{"one"}, Entrypoint: []string{"e"}, Env: []string{"A=b"}, Exposed: []brig.Port{{Number: 80, Proto: "tcp"}, {Number: 81, Proto: "udp"}},
		Volumes: []string{"/a", "/v"}, User: "u", Health: &brig.HealthCheck{Test: []string{"NONE"}},
	}
	for _, c := range []struct {
		query string
		body  any
		want  brig.CommitRequest
	}{
		{"container=web", nil, brig.CommitRequest{Container: "web", Pause: true}},
		{"container=web&pause=0", nil, brig.CommitRequest{Container: "web"}},
		{"container=web&repo=a&tag=1&author=me&comment=why&changes=CMD+x", config,
			brig.CommitRequest{Container: "web", Repository: "a", Tag: "1", Author: "me", Comment: "why", Pause: true, Changes: []string{"CMD x"}, Config: asked}},
	} {
		d := newDaemon(t)
		if got := d.want(t, 201, "POST", "/commit?"+c.query, c.body); got != `{"Id":"sha256:made"}`+"\n" {
			t.Errorf("%s: answer %s", c.query, got)
		}
		if len(d.images.committed) != 1 || !reflect.DeepEqual(d.images.committed[0], c.want) {
			t.Errorf("%s: %+v, want %+v", c.query, d.images.committed, c.want)
		}
	}
	d := newDaemon(t)
	d.want(t, 201, "POST", "/commit?container=web", strings.NewReader("null"))
	for query, status := range map[string]int{
		"container=nosuch": 404, "container=web&repo=UP": 400, "container=web&changes=RUN+x": 400,
		"container=web&repo=a&tag=sha256:" + strings.Repeat("1", 64): 400,
	} {
		d.message(t, status, "POST", "/commit?"+query, nil)
	}
}
