package store

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// Revocation takes back a user's tokens, one token, or both. It belongs to no
// document.
type Revocation struct {
	User  string // whose tokens that were issued before At are void; "" for nobody's
	Token string // the id (jti) of a token that is void; "" for none
	At    int64  // when that was said, in milliseconds since 1970
	Until int64  // when it is of no effect any more; 0: never
	By    string // the user who said it
}

const (
	sqlRevoke      = "INSERT INTO revocation (user, token, at, until, by) VALUES (?, ?, ?, ?, ?)"
	sqlRevocations = "SELECT user, token, at, until, by FROM revocation WHERE n > ? ORDER BY n"
)

func (w *writer) revoke(r *Revocation) error {
	_, err := w.conn.exec(sqlRevoke, r.User, r.Token, r.At, r.Until, r.By)
	return err
}

// Revocations returns all that were ever appended but for the first few, in their
// order.
func (s *Store) Revocations(ctx context.Context, after int) (list []Revocation, err error) {
	if s.backend != nil {
		return s.backend.Revocations(ctx, after)
	}
	err = s.readers.with(ctx, func(c *conn) error {
		return c.query(ctx, func(v []driver.Value) error {
			list = append(list, Revocation{
				User: v[0].(string), Token: v[1].(string), At: v[2].(int64), Until: v[3].(int64), By: v[4].(string),
			})
			return nil
		}, sqlRevocations, int64(after))
	})
	if err != nil {
		return nil, fmt.Errorf("read the revocations: %w", err)
	}
	return list, nil
}
