package server

import (
	"fmt"
	"net/http"

	"parley/crdt/transaction"
	"parley/sync/presence"
)

// Identity is who makes a request, as the server knows it. The zero Identity is
// somebody without a name, who may read.
type Identity struct {
	User string // the id that changes are made in the name of
	Name string // for people to read; not unique
	Role transaction.Role
}

func (i Identity) person() presence.Person {
	return presence.Person{User: i.User, Name: i.Name, Role: i.Role}
}

func (i Identity) author() transaction.Author { return i.person().Author() }

// maxUser is how long a user id or name may be, in bytes.
const maxUser = 256

// DevIdentity believes what a request says of itself, in ?user=, ?name= and
// ?role= (party, if there is a user and nothing is said). It proves nothing and
// is for development.
func DevIdentity(r *http.Request) (Identity, error) {
	q := r.URL.Query()
	id := Identity{User: q.Get("user"), Name: q.Get("name"), Role: transaction.Role(q.Get("role"))}
	if len(id.User) > maxUser || len(id.Name) > maxUser {
		return Identity{}, fmt.Errorf("user and name may have at most %d bytes", maxUser)
	}
	switch id.Role {
	case "":
		if id.User != "" {
			id.Role = transaction.Party
		}
	case transaction.Host, transaction.Party, transaction.Viewer, transaction.Auditor:
		if id.User == "" {
			return Identity{}, fmt.Errorf("role %q needs a user: add ?user=NAME", id.Role)
		}
	default:
		return Identity{}, fmt.Errorf("there is no role %q: use host, party, viewer or auditor", id.Role)
	}
	return id, nil
}
