// Package gitsource checks out what a Git URL with a fragment names, as build contexts and ADD have it: URL#REF:DIRECTORY.
//
// The URLs are of strangers: git gets no configuration but its own defaults, asks nobody for passwords, runs no hooks, and speaks https,
// http, ssh and git alone, for submodules too.
package gitsource

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
)

// A Source is a commit of a repository, and a directory in it.
type Source struct {
	Remote string // what git fetches from
	Ref    string // branch, tag, any other ref, or commit; "": the remote's HEAD
	Dir    string // in the repository, "" for its top
}

var (
	dotGit = regexp.MustCompile(`\.git(?:#.+)?$`)
	scpRE  = regexp.MustCompile(`^[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:[^/].*$`)
)

// Is reports whether s is a Git URL as Docker has it: git:// and ssh:// URLs, git@HOST:PATH, github.com/…, and http and https ones whose
// path ends in .git.
func Is(s string) bool {
	switch {
	case strings.HasPrefix(s, "http://"), strings.HasPrefix(s, "https://"):
		return dotGit.MatchString(s)
	case strings.HasPrefix(s, "git://"), strings.HasPrefix(s, "ssh://"), strings.HasPrefix(s, "github.com/"):
		return true
	}
	return strings.HasPrefix(s, "git@") && scpRE.MatchString(s)
}

// Parse takes a Git URL apart. Invalid: it is none.
func Parse(s string) (Source, error) {
	if !Is(s) {
		return Source{}, errs.New(errs.Invalid, "%q is not the URL of a Git repository", s)
	}
	remote, fragment, _ := strings.Cut(s, "#")
	if strings.HasPrefix(remote, "github.com/") {
		remote = "https://" + remote
	}
	if strings.Contains(remote, "://") {
		if u, err := url.Parse(remote); err != nil {
			return Source{}, errs.As(errs.Invalid, err)
		} else if u.Host == "" || strings.HasPrefix(u.Host, "-") {
			return Source{}, errs.New(errs.Invalid, "the URL %s names no host", u.Redacted())
		}
	}
	src := Source{Remote: remote}
	src.Ref, src.Dir, _ = strings.Cut(fragment, ":")
	if strings.HasPrefix(src.Ref, "-") { // else git takes it for an option
		return Source{}, errs.New(errs.Invalid, "invalid refspec: %s", src.Ref)
	}
	return src, nil
}

// git runs git in dir. Its error has what git said, in dockerd's words, and not what was run: a URL may hold a password.
func git(ctx context.Context, dir string, args ...string) (string, error) {
	env := []string{
		"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ALLOW_PROTOCOL=git:http:https:ssh",
		"GIT_SSH_COMMAND=ssh -o BatchMode=yes", "HOME=" + os.DevNull, "LC_ALL=C", "GIT_CEILING_DIRECTORIES=" + filepath.Dir(dir),
	}
	for _, name := range []string{"PATH", "SSH_AUTH_SOCK", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GIT_SSL_CAINFO", "SSL_CERT_FILE"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	out, err := host.Command{Argv: append([]string{"git", "-c", "core.hooksPath=" + os.DevNull, "-c", "advice.detachedHead=false"}, args...), Dir: dir, Env: env}.Output(ctx)
	var failed *host.Error
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		err = errs.New(errs.NotImplemented, "Git repositories can't be read: git is not installed beside the daemon")
	case errors.As(err, &failed) && failed.Stderr != "":
		err = fmt.Errorf("error fetching: %s: %w", failed.Stderr, failed.Err)
	case errors.As(err, &failed):
		err = fmt.Errorf("git %s: %w", args[0], failed.Err)
	}
	return strings.TrimSpace(string(out)), err
}

// Fetch checks the source out into dir, an empty directory, submodules too, and returns its commit, and the path of the directory that the
// source names. With keepGit .git stays. What git says on failure is in the error, of kind Internal; NotImplemented: there is no git.
func (s Source) Fetch(ctx context.Context, dir string, keepGit bool) (path, commit string, err error) {
	if _, err := git(ctx, dir, "init", "--quiet", "--template="); err != nil {
		return "", "", err
	}
	if _, err := git(ctx, dir, "remote", "add", "--", "origin", s.Remote); err != nil {
		return "", "", err
	}
	if err := s.fetch(ctx, dir); err != nil {
		return "", "", err
	}
	if commit, err = git(ctx, dir, "rev-parse", "HEAD"); err != nil {
		return "", "", err
	}
	if _, err := os.Lstat(filepath.Join(dir, ".gitmodules")); err == nil {
		if _, err := git(ctx, dir, "submodule", "--quiet", "update", "--init", "--recursive", "--depth", "1"); err != nil {
			return "", "", err
		}
	}
	if !keepGit {
		if err := removeGit(dir); err != nil {
			return "", "", err
		}
	}
	path, err = s.within(dir)
	return path, commit, err
}

// fetch brings the ref alone where the server can do that, else everything, and checks it out.
func (s Source) fetch(ctx context.Context, dir string) error {
	ref := s.Ref
	if ref == "" {
		ref = "HEAD"
	}
	_, shallow := git(ctx, dir, "fetch", "--quiet", "--no-tags", "--depth", "1", "origin", ref)
	if shallow == nil {
		_, err := git(ctx, dir, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
		return err
	}
	if ctx.Err() != nil || errs.Is(shallow, errs.NotImplemented) {
		return shallow
	}
	// A server without history on demand, as plain files over http are; or a commit that it gives only as part of a branch.
	if _, err := git(ctx, dir, "fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"); err != nil {
		return shallow
	}
	for _, name := range []string{"refs/remotes/origin/" + ref, "refs/tags/" + ref, ref} {
		if _, err := git(ctx, dir, "rev-parse", "--quiet", "--verify", name+"^{commit}"); err == nil {
			_, err := git(ctx, dir, "checkout", "--quiet", "--force", "--detach", name)
			return err
		}
	}
	if s.Ref == "" { // what HEAD is of a server that can't say so by itself
		if _, err := git(ctx, dir, "remote", "set-head", "origin", "--auto"); err == nil {
			_, err := git(ctx, dir, "checkout", "--quiet", "--force", "--detach", "refs/remotes/origin/HEAD")
			return err
		}
	}
	return shallow
}

// within returns the path of s.Dir in the checkout; its symlinks lead nowhere else.
func (s Source) within(dir string) (string, error) {
	if s.Dir == "" {
		return dir, nil
	}
	path, err := securejoin.SecureJoin(dir, s.Dir)
	if err != nil {
		return "", errs.New(errs.Invalid, "find %s in the repository: %w", s.Dir, err)
	}
	if st, err := os.Lstat(path); err != nil || !st.IsDir() {
		return "", errs.New(errs.Invalid, "the repository has no directory %s", s.Dir)
	}
	return path, nil
}

// removeGit removes .git, of submodules too, where it is a file.
func removeGit(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != ".git" {
			return err
		}
		if err := os.RemoveAll(path); err != nil || !d.IsDir() {
			return err
		}
		return filepath.SkipDir
	})
}
