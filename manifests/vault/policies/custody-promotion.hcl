# What the role custody-promotion may do: sign with its own key, and learn that key's public part. Nothing else.
path "transit/sign/custody-promotion" {
  capabilities = ["update"]
}
path "transit/keys/custody-promotion" {
  capabilities = ["read"]
}
# To tell a token that ended from a path that is not permitted.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
