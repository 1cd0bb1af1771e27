package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/patternmatcher"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/gitsource"
)

// unnamed is what a fetched file is called whose URL says no name.
const unnamed = "__unnamed__"

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// isGit reports whether ADD takes a source for a Git repository. What could as well be a path is none, unlike as a build's context.
func isGit(s string) bool { return gitsource.Is(s) && !strings.HasPrefix(s, "github.com/") }

// excluded reports whether patterns leave a single file out, by its own name or by its path.
func excluded(name, rel string, patterns []string) (bool, error) {
	for _, n := range []string{name, rel} {
		out, err := patternmatcher.MatchesOrParentMatches(n, patterns)
		if out || err != nil {
			return out, errs.As(errs.Invalid, err)
		}
	}
	return false, nil
}

// written makes a place with one file in it.
func (s *stage) written(name, data string) (*place, string, error) {
	dir, err := os.MkdirTemp(s.temp, "file-")
	if err != nil {
		return nil, "", err
	}
	if name = path.Base("/" + name); name == "/" {
		return nil, "", errs.New(errs.Invalid, "a heredoc needs a name")
	}
	at := filepath.Join(dir, name)
	if err := os.WriteFile(at, []byte(data), 0o644); err != nil {
		return nil, "", err
	}
	return &place{dir: dir}, name, os.Chmod(at, 0o644)
}

// remote adds what a URL names.
func (s *stage) remote(ctx context.Context, c *copying, x *instructions.AddCommand, src string) error {
	dir, err := os.MkdirTemp(s.temp, "fetched-")
	if err != nil {
		return err
	}
	if isGit(src) {
		g, err := gitsource.Parse(src)
		if err == nil {
			dir, _, err = g.Fetch(ctx, dir, x.KeepGitDir != nil && *x.KeepGitDir)
		}
		if err != nil {
			return err
		}
		return s.add(ctx, c, copySource{from: &place{dir: dir}, rel: ".", name: "."})
	}
	name, err := s.download(ctx, src, dir, x.Checksum)
	if err != nil {
		return err
	}
	if name == "" {
		if strings.HasSuffix(x.DestPath, "/") {
			return errs.New(errs.Invalid, "cannot determine filename for source %s", src)
		}
		name = unnamed
	}
	if err := s.add(ctx, c, copySource{from: &place{dir: dir}, rel: name, name: name, archive: x.Unpack != nil && *x.Unpack}); err != nil {
		return err
	}
	if n := len(c.sources); n > 0 { // the history has no file: before it, as dockerd's
		c.sources[n-1].hash = strings.TrimPrefix(c.sources[n-1].hash, "file:")
	}
	return nil
}

// download fetches a file into dir. name is "" if nobody says one; it is called unnamed then.
func (s *stage) download(ctx context.Context, src, dir, checksum string) (name string, err error) {
	u, err := url.Parse(src)
	if err != nil {
		return "", errs.As(errs.Invalid, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, src, nil)
	if err != nil {
		return "", errs.As(errs.Invalid, err)
	}
	resp, err := s.c.HTTP.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return "", errs.New(errs.NotFound, "failed to GET %s with status %s: %s", src, resp.Status, strings.TrimSpace(string(said)))
	}
	name = remoteName(u.Path, resp.Header.Get("Content-Disposition"))
	at := filepath.Join(dir, unnamed)
	if name != "" {
		at = filepath.Join(dir, name)
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer f.Close()
	d := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, d), resp.Body); err != nil {
		return "", fmt.Errorf("GET %s: %w", src, err)
	}
	s.out.say("\n")
	if got := "sha256:" + hex.EncodeToString(d.Sum(nil)); checksum != "" && checksum != got {
		return "", errs.New(errs.Invalid, "digest mismatch %s: %s", got, checksum)
	}
	mtime := time.Unix(0, 0)
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		mtime = t
	}
	if err := f.Close(); err != nil {
		return "", err
	}
	return name, os.Chtimes(at, mtime, mtime)
}

// remoteName is the name of a file by its URL's path or what the server says; "" if neither gives one.
func remoteName(p, disposition string) string {
	names := []string{p}
	if _, params, err := mime.ParseMediaType(disposition); err == nil {
		names = append(names, params["filename"])
	}
	for _, n := range names {
		if n == "" || strings.HasSuffix(n, "/") {
			continue
		}
		if b := path.Base(n); b != "." && b != ".." && b != "/" {
			return b
		}
	}
	return ""
}
