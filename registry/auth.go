package registry

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// A challenge is one entry of WWW-Authenticate (RFC 7235, section 4.1). ggcr's own reading of it comes with a check that forbids
// token servers on private addresses, which dockerd allows and house registries have; hence this one.
type challenge struct {
	scheme string // lower case
	params map[string]string
}

// challenges reads all WWW-Authenticate headers. What it can't read it leaves out.
func challenges(h http.Header) (out []challenge) {
	for _, s := range h.Values("WWW-Authenticate") {
		for s = strings.Trim(s, " \t,"); s != ""; {
			i := strings.IndexAny(s, " \t,")
			if i < 0 {
				i = len(s)
			}
			if !isToken(s[:i]) {
				break
			}
			c := challenge{scheme: strings.ToLower(s[:i])}
			c.params, s = parseParams(s[i:])
			out = append(out, c)
		}
	}
	return out
}

// isToken reports whether s is a token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r) }) < 0
}

// parseParams reads key=value pairs up to the next challenge, which is the first word without a "=" before its end.
func parseParams(s string) (params map[string]string, rest string) {
	params = map[string]string{}
	for {
		s = strings.TrimLeft(s, " \t,")
		i := strings.IndexAny(s, "= \t,")
		if i <= 0 || s[i] != '=' {
			return params, s
		}
		if !isToken(s[:i]) {
			return params, ""
		}
		key := strings.ToLower(s[:i])
		params[key], s = parseValue(s[i+1:])
	}
}

// parseValue reads a token or a quoted string.
func parseValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		i := strings.IndexAny(s, ", \t")
		if i < 0 {
			i = len(s)
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

// authorize answers a 401's challenges and sets the session's Authorization. u is what was asked for, for the error's text.
func (s *session) authorize(ctx context.Context, u *url.URL, cs []challenge) error {
	basic := false
	for _, c := range cs {
		switch c.scheme {
		case "bearer":
			token, err := s.token(ctx, c.params)
			if err != nil {
				return errs.Wrap(err, "Get %q", u)
			}
			s.setHeader("Bearer " + token)
			return nil
		case "basic":
			basic = true
		}
	}
	if !basic {
		return errs.New(errs.Unauthorized, "Get %q: unauthorized: the registry asks for a way of authentication that is not known", u)
	}
	if s.auth.Username == "" && s.auth.Password == "" {
		return errs.New(errs.Unauthorized, "Get %q: no basic auth credentials", u)
	}
	req := http.Request{Header: http.Header{}}
	req.SetBasicAuth(s.auth.Username, s.auth.Password)
	s.setHeader(req.Header.Get("Authorization"))
	return nil
}

// token gets a bearer token (distribution's token and OAuth2 specifications).
func (s *session) token(ctx context.Context, params map[string]string) (string, error) {
	if s.auth.RegistryToken != "" {
		return s.auth.RegistryToken, nil
	}
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || (realm.Scheme != "https" && realm.Scheme != "http") {
		return "", errs.New(errs.Invalid, "the registry names an impossible token server %q", params["realm"])
	}
	if realm.Scheme == "http" && s.base.Scheme == "https" && !s.insecure {
		return "", errs.New(errs.Forbidden, "the registry is secure and its token server %q is not", params["realm"])
	}
	q := url.Values{}
	if params["service"] != "" {
		q.Set("service", params["service"])
	}
	if s.repo != "" {
		q.Set("scope", "repository:"+s.repo+":"+s.actions)
		for _, from := range s.mountable() {
			q.Add("scope", "repository:"+from+":pull")
		}
	}
	req, err := s.tokenRequest(ctx, realm, q)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", unreachable(ctx, err)
	}
	defer resp.Body.Close()
	b, err := readCapped(resp.Body, maxToken, "answer of the token server "+realm.Host)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body = io.NopCloser(strings.NewReader(string(b)))
		return "", tokenRefused(resp, b)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return "", errs.New(errs.Invalid, "answer of the token server %s: %w", realm.Host, err)
	}
	token := or(answer.Token, answer.AccessToken)
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", errs.New(errs.Invalid, "the token server %s did not include a token in its answer", realm.Host)
	}
	return token, nil
}

// tokenRequest is a POST with an identity token, else a GET, with Basic if there is a user.
func (s *session) tokenRequest(ctx context.Context, realm *url.URL, q url.Values) (*http.Request, error) {
	u := *realm
	if s.auth.IdentityToken != "" {
		q.Set("grant_type", "refresh_token")
		q.Set("refresh_token", s.auth.IdentityToken)
		q.Set("client_id", "brig")
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	all := u.Query()
	for k, v := range q {
		all[k] = v
	}
	if s.auth.Username != "" {
		all.Set("account", s.auth.Username)
	}
	u.RawQuery = all.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err == nil && s.auth.Username != "" {
		req.SetBasicAuth(s.auth.Username, s.auth.Password)
	}
	return req, err
}

// tokenRefused reads a token server's refusal; Docker Hub's has its words in "details".
func tokenRefused(resp *http.Response, body []byte) error {
	var hub struct {
		Details string `json:"details"`
	}
	if json.Unmarshal(body, &hub) == nil && hub.Details != "" && resp.StatusCode < 500 {
		r := &refusal{status: resp.StatusCode, code: "UNAUTHORIZED", message: "unauthorized: " + hub.Details}
		return errs.As(errs.Unauthorized, r)
	}
	return refused(resp)
}
