package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// maxRedirects is what Go's client and dockerd have.
const maxRedirects = 10

// isInsecure reports whether a registry may have a bad certificate or none, by dockerd's rules: its host or host:port is named,
// or an address of it is in a named network. Names are looked up only if networks beyond loopback are named.
func (r *Registry) isInsecure(ctx context.Context, hostport string) bool {
	host := strings.ToLower(hostport)
	if r.hosts[host] {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if r.hosts[host] {
		return true
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(host); err == nil {
		addrs = append(addrs, a)
	} else if len(r.nets) > 2 {
		addrs, _ = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	for _, a := range addrs {
		for _, n := range r.nets {
			if n.Contains(a.Unmap()) {
				return true
			}
		}
	}
	return false
}

// transport returns the connections to host, made on first use.
func (r *Registry) transport(host string, insecure bool) (*http.Transport, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.transports[host]; t != nil {
		return t, nil
	}
	config, err := r.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	config.InsecureSkipVerify = insecure
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: r.config.Stall,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConnsPerHost:   16,   // layers at once, times ranges at once, and some
		DisableCompression:    true, // digests are of the bytes as stored
		ForceAttemptHTTP2:     true,
	}
	r.transports[host] = t
	return t, nil
}

// tlsConfig reads the host's directory beneath CertsDir (dockerd-certs: *.crt authorities, NAME.cert with NAME.key for the client).
func (r *Registry) tlsConfig(host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if r.config.CertsDir == "" || strings.ContainsAny(host, "/\\") {
		return config, nil
	}
	dir := filepath.Join(r.config.CertsDir, host)
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		switch filepath.Ext(path) {
		case ".crt":
			err = addAuthority(config, path)
		case ".cert":
			var pair tls.Certificate
			pair, err = tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			config.Certificates = append(config.Certificates, pair)
		}
		if err != nil {
			return nil, errs.Wrap(err, "certificates for %s: %s", host, f.Name())
		}
	}
	return config, nil
}

func addAuthority(config *tls.Config, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if config.RootCAs == nil {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
	}
	if !config.RootCAs.AppendCertsFromPEM(b) {
		return errors.New("no certificate in it")
	}
	return nil
}

// redirect bounds redirects, keeps credentials from other hosts, and secure transfers secure.
func redirect(insecure bool) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return errs.New(errs.Invalid, "stopped after %d redirects", maxRedirects)
		}
		if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
			return errs.New(errs.Invalid, "refused to be sent to %q", req.URL)
		}
		first := via[0].URL
		if first.Scheme == "https" && req.URL.Scheme != "https" && !insecure {
			return errs.New(errs.Forbidden, "refused to be sent from https to %s", req.URL.Scheme)
		}
		if req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
			req.Header.Del("Authorization")
		}
		return nil
	}
}

// unreachable gives a failed exchange its kind and keeps net/http's text, which is dockerd's.
func unreachable(ctx context.Context, err error) error {
	var kind interface{ Timeout() bool }
	switch {
	case canceled(ctx, err):
		return err
	case errs.KindOf(err) != errs.Internal:
		return err
	case errors.As(err, &kind) && kind.Timeout():
		return errs.New(errs.Unavailable, "%w", err)
	}
	return errs.As(errs.Unavailable, err)
}
