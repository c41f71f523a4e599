package client

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAnswersThatWillStayTheSame(t *testing.T) {
	for status, stays := range map[int]bool{400: true, 401: true, 404: true, 429: false, 500: false, 503: false, 200: false} {
		answer := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "the reason", status) }
		srv := httptest.NewServer(http.HandlerFunc(answer))
		_, err := dialWebSocket(t.Context(), srv.URL, nil)
		srv.Close()
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) != stays {
			t.Errorf("status %d: %v", status, err)
		}
		if stays && (refused.Code != status || refused.Reason != "the reason") {
			t.Errorf("status %d: %v", status, refused)
		}
	}
}

func TestServerURL(t *testing.T) {
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Server: "ws://h:1", User: "a b&c", Role: "host"}, "ws://h:1?role=host&user=a+b%26c"},
		{Options{Server: "https://h/sync", User: "a", Name: "Ann"}, "wss://h/sync?name=Ann&user=a"},
		{Options{Server: "ws://h", User: "a", Token: "secret"}, "ws://h"},
	} {
		if got, err := c.opt.serverURL(); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c.opt, got, err)
		}
	}
	if s := TokenSubject("e30.eyJzdWIiOiJhbGljZSJ9.x"); s != "alice" {
		t.Errorf("the token is about %q", s)
	}
}
