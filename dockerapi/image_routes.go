package dockerapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/image"

	"github.com/brigd/brig/internal/errs"
)

func (s *Server) imageRoutes() []route {
	return []route{
		{"GET", "/images/json", s.imageList, 24},
		{"GET", "/images/search", s.imageSearch, 24},
		{"GET", "/images/get", s.imageSaveMany, 24},
		{"POST", "/images/create", s.imageCreate, 24},
		{"POST", "/images/load", s.imageLoad, 24},
		{"POST", "/images/prune", s.imagePrune, 25},
		{"GET", "/images/{name:.*}/get", s.imageSave, 24},
		{"GET", "/images/{name:.*}/history", s.imageHistory, 24},
		{"GET", "/images/{name:.*}/json", s.imageInspect, 24},
		{"POST", "/images/{name:.*}/push", s.imagePush, 24},
		{"POST", "/images/{name:.*}/tag", s.imageTag, 24},
		{"DELETE", "/images/{name:.*}", s.imageRemove, 24},
	}
}

func (s *Server) imageSearch(_ context.Context, r *request) (response, error) {
	if r.query.Get("term") == "" {
		return nil, errs.New(errs.Invalid, "no search term given")
	}
	return nil, errs.New(errs.NotImplemented, "brig doesn't search: only Docker Hub can be asked, by a protocol that is not the registries' own; "+
		"use its web page")
}

func (s *Server) imageTag(ctx context.Context, r *request) (response, error) {
	repo, tag := r.query.Get("repo"), r.query.Get("tag")
	if repo == "" {
		return nil, errs.New(errs.Invalid, "the query parameter repo is empty")
	}
	ref, err := parseImageRef(repo, tag)
	if err != nil {
		return nil, err
	}
	if ref.digest {
		return nil, errs.New(errs.Invalid, "refusing to create a tag with a digest reference")
	}
	if err := s.Images.ImageTag(ctx, r.vars["name"], ref.name, ref.tagOr("latest")); err != nil {
		return nil, err
	}
	return noBody(http.StatusCreated), nil
}

func (s *Server) imageRemove(ctx context.Context, r *request) (response, error) {
	name := r.vars["name"]
	if strings.TrimSpace(name) == "" {
		return nil, errs.New(errs.Invalid, "image name cannot be blank")
	}
	gone, err := s.Images.ImageRemove(ctx, name, r.flag("force"), r.flag("noprune"))
	if err != nil {
		return nil, err
	}
	out := make([]image.DeleteResponse, len(gone))
	for i, d := range gone {
		out[i] = image.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted}
	}
	return asJSON(http.StatusOK, out), nil
}

func (s *Server) imageHistory(ctx context.Context, r *request) (response, error) {
	names, err := s.onPlatform(ctx, r, 48, r.vars["name"])
	if err != nil {
		return nil, err
	}
	lines, err := s.Images.ImageHistory(ctx, names[0])
	if err != nil {
		return nil, err
	}
	out := make([]image.HistoryResponseItem, len(lines))
	for i, l := range lines {
		out[i] = image.HistoryResponseItem{ID: l.ID, CreatedBy: l.CreatedBy, Comment: l.Comment, Size: l.Size, Tags: l.Tags}
		if !l.Created.IsZero() {
			out[i].Created = l.Created.Unix()
		}
	}
	return asJSON(http.StatusOK, out), nil
}
