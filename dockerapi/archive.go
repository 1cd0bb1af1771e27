package dockerapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// pathStatHeader carries a brig.PathStat as base64 of JSON.
const pathStatHeader = "X-Docker-Container-Path-Stat"

func encodePathStat(p brig.PathStat) (string, error) {
	doc, err := json.Marshal(struct {
		Name       string `json:"name"`
		Size       int64  `json:"size"`
		Mode       uint32 `json:"mode"`
		Mtime      string `json:"mtime"`
		LinkTarget string `json:"linkTarget"`
	}{p.Name, p.Size, p.Mode, p.Mtime, p.LinkTarget})
	return base64.StdEncoding.EncodeToString(doc), err
}

func (r *request) archivePath() (string, error) {
	p := r.query.Get("path")
	if p == "" {
		return "", invalid("bad parameter: path cannot be empty")
	}
	return p, nil
}

func (s *Server) archiveStat(ctx context.Context, r *request) (response, error) {
	p, err := r.archivePath()
	if err != nil {
		return nil, err
	}
	stat, err := s.Files.StatPath(ctx, r.ref(), p)
	if err != nil {
		return nil, err
	}
	header, err := encodePathStat(stat)
	if err != nil {
		return nil, errs.Wrap(err, "encode the stat of %s", p)
	}
	return func(a *answer) error {
		a.Header().Set(pathStatHeader, header)
		a.WriteHeader(http.StatusOK)
		return nil
	}, nil
}

func (s *Server) archiveGet(ctx context.Context, r *request) (response, error) {
	p, err := r.archivePath()
	if err != nil {
		return nil, err
	}
	tar, stat, err := s.Files.GetArchive(ctx, r.ref(), p)
	if err != nil {
		return nil, err
	}
	header, err := encodePathStat(stat)
	if err != nil {
		tar.Close()
		return nil, errs.Wrap(err, "encode the stat of %s", p)
	}
	return func(a *answer) error {
		a.Header().Set(pathStatHeader, header)
		return sendTar(a, tar)
	}, nil
}

// sendTar sends tar and closes it. If reading it fails at once, that is the answer.
func sendTar(a *answer, tar io.ReadCloser) error {
	_, err := io.Copy(&lateWriter{a: a, contentType: "application/x-tar"}, tar)
	if cerr := tar.Close(); err == nil {
		err = cerr
	}
	return err
}

func (s *Server) archivePut(ctx context.Context, r *request) (response, error) {
	p, err := r.archivePath()
	if err != nil {
		return nil, err
	}
	return nil, s.Files.PutArchive(ctx, r.ref(), p, r.flag("noOverwriteDirNonDir"), r.flag("copyUIDGID"), r.Body)
}

func (s *Server) containerExport(ctx context.Context, r *request) (response, error) {
	tar, err := s.Files.Export(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	return func(a *answer) error { return sendTar(a, tar) }, nil
}
