-- Try what failed again, also what Golive does not try again by itself, such as a release command.
local os = require("os")
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["golive.dev/retry"] = os.date("!%Y-%m-%dT%XZ")
return obj
