package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/config"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/metadata"
)

// openMetadata makes the publisher of pods; with metadata off a service that still runs is told to end.
func (e *engine) openMetadata(ctx context.Context, c config.Config, log *slog.Logger) {
	p := metadata.Open(metadata.PublisherConfig{
		Dir: e.root.path("mds"), Program: programPath(c.Shim, "brig-mds"), User: c.MetadataUser, Issuer: "brig:" + e.root.instance, Log: log,
	})
	e.closers = append(e.closers, p.Close)
	if c.Metadata == "off" {
		if err := p.Sweep(ctx, nil); err != nil {
			log.Warn("metadata is off, but of what was served before not all may be gone", "err", err)
		}
		return
	}
	e.metadata = p
	for _, n := range p.Notes() {
		log.Warn("containers start without metadata", "why", n)
	}
}

// examineIdentities looks for pods that are published and are no more.
func (h *housekeeper) examineIdentities(ctx context.Context, o brig.Examination, d *brig.Diagnosis) {
	if h.e.metadata == nil {
		return
	}
	for _, uuid := range h.e.metadata.Published() {
		_, _, err := h.e.containers.PodGet(ctx, uuid)
		if errs.Is(err, errs.NotFound) && slices.Contains(h.e.metadata.Published(), uuid) { // one that goes now is withdrawn before its record goes
			f := brig.Finding{Check: "metadata", Subject: uuid, Problem: "it can ask who it is, and there is no such pod", Mend: "withdraw its identity"}
			d.Add(f, o.Fix, func() error { return h.e.metadata.Withdraw(ctx, uuid) })
		}
	}
}

// unidentified answers for a metadata service that is off.
type unidentified struct{}

var errMetadataOff = errs.New(errs.NotImplemented, `pods have no identity here: brigd's setting "metadata" is off`)

// VerifySignature implements dockerapi's Identities.
func (unidentified) VerifySignature(context.Context, string, string, io.Reader) (bool, error) {
	return false, errMetadataOff
}

// JWKS implements dockerapi's Identities.
func (unidentified) JWKS(context.Context) ([]byte, error) { return nil, errMetadataOff }

// Rotate implements dockerapi's Identities.
func (unidentified) Rotate(context.Context, time.Duration) error { return errMetadataOff }

// programPath is where a program that brigd starts is: beside the shim that is configured, or where any of brig's programs is.
func programPath(shim, name string) string {
	if shim != "" {
		if p := filepath.Join(filepath.Dir(shim), name); isFile(p) {
			return p
		}
	}
	return companion(name)
}
