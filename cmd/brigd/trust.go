package main

import (
	"context"
	"io"
	"slices"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/discovery"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/trust"
)

// trusting brings the keystore together with what finds keys on the web; it implements dockerapi.Trust.
type trusting struct {
	keys *trust.Store
	web  *discovery.Client
}

// maxKeyring bounds what is downloaded, in bytes.
const maxKeyring = 1 << 20

// TrustList implements dockerapi.Trust.
func (t *trusting) TrustList(ctx context.Context) ([]brig.TrustedKey, error) { return t.keys.List(ctx) }

// TrustFind implements dockerapi.Trust.
func (t *trusting) TrustFind(ctx context.Context, prefix, url string, ring []byte, insecure bool) (keys []brig.TrustedKey, err error) {
	if len(ring) > 0 {
		return t.keys.Read(ring)
	}
	urls := []string{url}
	switch {
	case url == "" && prefix == "":
		return nil, errs.New(errs.Invalid, "root keys can't be discovered: give a file or a URL")
	case url == "":
		if urls, err = t.web.KeyURLs(ctx, prefix, insecure); err != nil {
			return nil, err
		}
	}
	for _, u := range urls {
		some, err := t.download(ctx, u, insecure)
		if err != nil {
			return nil, errs.Wrap(err, "keys at %s", u)
		}
		for _, k := range some {
			if !slices.ContainsFunc(keys, func(o brig.TrustedKey) bool { return o.Fingerprint == k.Fingerprint }) {
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

func (t *trusting) download(ctx context.Context, url string, insecure bool) ([]brig.TrustedKey, error) {
	body, _, err := t.web.Open(ctx, url, insecure, maxKeyring)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	ring, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	return t.keys.Read(ring)
}

// TrustAdd implements dockerapi.Trust.
func (t *trusting) TrustAdd(ctx context.Context, prefix string, ring []byte) ([]brig.TrustedKey, error) {
	return t.keys.Trust(ctx, prefix, ring)
}

// TrustRemove implements dockerapi.Trust.
func (t *trusting) TrustRemove(ctx context.Context, prefix, fingerprint string) error {
	return t.keys.Untrust(ctx, prefix, fingerprint)
}
