"""From the recipe's terms to objectives that know the teacher."""
